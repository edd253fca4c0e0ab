//! A server that goes on from an older state: what its agents notice of it, and tell.

use registry::{Key, LogId, Revision, Snapshot, objects::EntryId};

/// The view that came does not go on from the one that was known.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Anew {
    /// How the log changed, as a sentence.
    pub(crate) how: String,
    /// Entries that this node did not have before: among them are those that had been deleted since
    /// the server's older state.
    pub(crate) entries: Vec<EntryId>,
}

impl Anew {
    /// What is strange about a snapshot, if anything is, for an agent that has followed to `known` and
    /// `has` these entries.
    pub(crate) fn notice(
        known: Option<(&LogId, Revision)>,
        has: impl Fn(&EntryId) -> bool,
        snapshot: &Snapshot,
    ) -> Option<Self> {
        let (log, at) = known?;
        let how = match *log == snapshot.log {
            false => "the server goes on from a backup, or is another one: its log is a new one".to_owned(),
            true if snapshot.at < at => {
                format!("the server's log went back from revision {} to {}", at.0, snapshot.at.0)
            }
            true => return None,
        };
        let ids = snapshot.objects.iter().filter_map(|stored| match stored.object.key() {
            Key::Entry(id) => Some(id),
            _ => None,
        });
        Some(Self { how, entries: ids.filter(|id| !has(id)).collect() })
    }

    /// Tells whoever reads the log.
    pub(crate) fn tell(&self) {
        tracing::error!(
            "{}; what had ended since that state may be back, {} entries among it: look at them on the server",
            self.how,
            self.entries.len()
        );
        for entry in self.entries.iter().take(MOST_NAMED) {
            tracing::warn!(%entry, "this node did not have this entry before its server went on from an older state");
        }
    }
}

const MOST_NAMED: usize = 100;

#[cfg(test)]
mod tests {
    use registry::{Object, Stored};

    use super::*;
    use crate::testing::entry;

    fn snapshot(log: &str, at: u64, ids: &[&str]) -> Snapshot {
        let stored =
            |id: &&str| Stored { version: 1, object: Object::Entry(entry(id, "/a", &["unix:uid:1"])) };
        Snapshot { log: LogId(log.into()), at: Revision(at), objects: ids.iter().map(stored).collect() }
    }

    #[test]
    fn an_older_or_another_log_is_noticed_with_the_entries_that_came_back() {
        let log = LogId("a".into());
        let notice = |snapshot| Anew::notice(Some((&log, Revision(7))), |id| id.as_str() == "e1", &snapshot);
        assert_eq!(notice(snapshot("a", 7, &["e1", "e2"])), None);
        assert_eq!(notice(snapshot("a", 9, &["e1"])), None, "the agent was away for long");
        let back = notice(snapshot("a", 6, &["e1", "e2"])).unwrap();
        assert!(back.how.contains("from revision 7 to 6") && back.entries.len() == 1, "{back:?}");
        let other = notice(snapshot("b", 9, &["e1", "e3"])).unwrap();
        assert!(other.how.contains("backup") && other.entries[0].as_str() == "e3", "{other:?}");
        assert_eq!(
            Anew::notice(None, |_| false, &snapshot("b", 9, &["e1"])),
            None,
            "a new agent knows nothing"
        );
    }
}
