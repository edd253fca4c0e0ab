//! The table "Rooms and arrows" of ARCHITECTURE.md, as data.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// What "clients" means in the table's last rows.
const CLIENTS: [&str; 2] = ["server-api", "workload-api"];

/// Which rooms each room may use.
#[derive(Debug)]
pub(crate) struct Table(BTreeMap<String, Uses>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Uses {
    Everything,
    These(BTreeSet<String>),
}

impl Table {
    pub(crate) fn read(page: &Path) -> Result<Self> {
        let text = fs::read_to_string(page).with_context(|| format!("cannot read {}", page.display()))?;
        let table = Self::parse(&text);
        ensure!(!table.0.is_empty(), "{} has no table with the columns `room` and `uses`", page.display());
        Ok(table)
    }

    /// Takes the first and the last column; a row may name several rooms.
    fn parse(page: &str) -> Self {
        let rows = page
            .lines()
            .skip_while(|line| !(line.starts_with("| room |") && line.ends_with("| uses |")))
            .skip(2)
            .take_while(|line| line.starts_with('|'));
        let mut rooms = BTreeMap::new();
        for row in rows {
            let mut cells = row.trim_matches('|').split('|').map(str::trim);
            let (Some(names), Some(uses)) = (cells.next(), cells.next_back()) else { continue };
            for name in names.split(',') {
                rooms.insert(room(name), Uses::parse(uses));
            }
        }
        Self(rooms)
    }

    /// True where the page has a row for this room.
    pub(crate) fn knows(&self, room: &str) -> bool {
        self.0.contains_key(room)
    }

    /// Whether `from` may use `to`: named in its row, or in the row of a room that it may use.
    pub(crate) fn allows(&self, from: &str, to: &str) -> bool {
        let mut open = vec![from];
        let mut seen = BTreeSet::new();
        while let Some(room) = open.pop() {
            if !seen.insert(room) {
                continue;
            }
            match self.0.get(room) {
                Some(Uses::Everything) => return true,
                Some(Uses::These(rooms)) if rooms.contains(to) => return true,
                Some(Uses::These(rooms)) => open.extend(rooms.iter().map(String::as_str)),
                None => {}
            }
        }
        false
    }
}

impl Uses {
    fn parse(cell: &str) -> Self {
        match cell {
            "everything" => Self::Everything,
            list => Self::These(list.split(',').flat_map(Self::meant).collect()),
        }
    }

    /// The rooms that one word of a list means; the binary is run, not linked.
    fn meant(word: &str) -> Vec<String> {
        match word.trim() {
            "–" | "the binary" => Vec::new(),
            "clients" => CLIENTS.map(String::from).into(),
            name => vec![room(name)],
        }
    }
}

/// "`core/spiffe`" is the room "spiffe".
fn room(cell: &str) -> String {
    let name = cell.trim().trim_matches('`');
    name.rsplit('/').next().unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
text
| room | holds | what must not leak out | uses |
|---|---|---|---|
| `core/spiffe` | ids | parsing | – |
| `peer` | a process | `unsafe` | – |
| `proto` | generated | – | – |
| `agent` | replica | – | server-api, peer |
| `server-api` | clients | quirks | spiffe, proto |
| `workload-api` | doors | – | peer |
| `writ` | the binary `a|b` | clap | everything |
| `integration-tests`, `xtask` | stories | dev only | the binary, clients |

| agent | this is another table |
";

    #[test]
    fn a_room_uses_what_its_row_names_and_what_those_use() {
        let table = Table::parse(PAGE);
        assert!(table.allows("agent", "server-api"));
        assert!(table.allows("agent", "proto"));
        assert!(table.allows("xtask", "spiffe"));
        assert!(table.allows("writ", "agent"));
    }

    #[test]
    fn any_other_arrow_is_refused() {
        let table = Table::parse(PAGE);
        assert!(!table.allows("spiffe", "peer"));
        assert!(!table.allows("server-api", "agent"));
        assert!(!table.allows("integration-tests", "agent"));
        assert!(!table.allows("unknown", "spiffe"));
        assert!(!table.knows("unknown"));
    }
}
