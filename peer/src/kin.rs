//! What /proc/PID/stat says of whom a process belongs to: its parent and its terminal.

use std::fmt;

/// Its place among others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Kin {
    /// Who started it, or inherited it when that one ended; 0 if this cannot be seen from here.
    pub parent: u32,
    /// The terminal that can interrupt it.
    pub terminal: Option<Terminal>,
}

/// A kind of terminal. The number of a pseudo terminal says nothing: each container counts its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Terminal {
    /// A pseudo terminal, as of ssh, screen and terminal windows.
    Pseudo,
    /// A virtual console.
    Console(u32),
    /// A serial line.
    Serial(u32),
    /// Any other.
    Other,
}

impl Kin {
    /// Fields 4 and 7. The name, field 2, may hold spaces and parentheses, so counting starts behind its
    /// last one.
    pub(crate) fn parse(stat: &str) -> Option<Self> {
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        let terminal = Terminal::of_device(fields.nth(2)?.parse().ok()?);
        Some(Self { parent, terminal })
    }
}

impl Terminal {
    /// By the kernel's table of devices (Documentation/admin-guide/devices.txt). The number is signed in the
    /// text only.
    fn of_device(number: i32) -> Option<Self> {
        let number = number.cast_unsigned();
        let (major, minor) = ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xf_ff00));
        match (major, minor) {
            (0, 0) => None,
            (4, 0..=63) => Some(Self::Console(minor)),
            (4, _) => Some(Self::Serial(minor - 64)),
            (136..=143, _) => Some(Self::Pseudo),
            _ => Some(Self::Other),
        }
    }
}

impl fmt::Display for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pseudo => f.write_str("pts"),
            Self::Console(number) => write!(f, "tty{number}"),
            Self::Serial(number) => write!(f, "ttyS{number}"),
            Self::Other => f.write_str("other"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terminal(number: &str) -> Option<String> {
        let stat = format!("7 (a) S 1 ) 9) S 41 7 7 {number} -1 4194560 0");
        let kin = Kin::parse(&stat).expect("well formed");
        assert_eq!(kin.parent, 41, "a process cannot choose its parent by its name");
        kin.terminal.map(|terminal| terminal.to_string())
    }

    #[test]
    fn a_terminal_is_known_by_its_device() {
        assert_eq!(terminal("0"), None);
        assert_eq!(terminal("34816").as_deref(), Some("pts"));
        assert_eq!(terminal("34819").as_deref(), Some("pts"));
        assert_eq!(terminal("1025").as_deref(), Some("tty1"));
        assert_eq!(terminal("1088").as_deref(), Some("ttyS0"));
        assert_eq!(terminal("-1").as_deref(), Some("other"));
    }

    #[test]
    fn what_linux_would_not_write_is_refused() {
        for text in ["", "7", "7 (x)", "7 (x) S", "7 (x) S 1 2 3", "7 (x) S -1 2 3 4", "7 (x) S 1 2 3 x"] {
            assert_eq!(Kin::parse(text), None, "{text}");
        }
    }
}
