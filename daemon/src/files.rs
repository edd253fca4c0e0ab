//! How many files a daemon may have open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Takes as many open files as the system allows: each connection holds a few, and the usual default
/// of 1,024 is one busy user's share. Gives back how many that is.
pub fn raise_open_files() -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn afterwards_the_limit_is_the_hardest_there_is() {
        let raised = raise_open_files().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (raised, raised));
    }
}
