//! Names of users and groups, from whatever this host is configured to ask (files, LDAP, …).

use std::{sync::Arc, time::Duration};

use nix::{
    errno::Errno,
    unistd::{Gid, Group, Uid, User},
};
use parking_lot::Mutex;
use tokio::{sync::Semaphore, task::spawn_blocking, time::Instant};

use crate::{Evidence, recent::Recent, turns::Turns};

/// Looks up names and remembers them for a minute.
#[derive(Debug)]
pub(super) struct Names {
    known: Arc<Mutex<Recent<Id, Known>>>,
    asking: Turns<Id>,
    slots: Arc<Semaphore>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Id {
    User(u32),
    Group(u32),
}

#[derive(Clone, Debug)]
struct Known {
    name: Option<Arc<str>>,
    until: Instant,
}

/// Why a number has no name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum NameError {
    #[error("this host has no name for {0}")]
    None(String),
    #[error("the name service failed for {0}: {1}")]
    Failed(String, Errno),
    #[error("the name service was not quick enough with a name for {0}")]
    Silent(String),
}

impl NameError {
    pub(super) fn note(&self, evidence: &mut Evidence) {
        match self {
            Self::None(_) => evidence.note(self.to_string()),
            Self::Failed(..) | Self::Silent(_) => evidence.note_for_now(self.to_string()),
        }
    }
}

impl Default for Names {
    fn default() -> Self {
        Self {
            known: Arc::new(Mutex::new(Recent::new(REMEMBERED))),
            asking: Turns::new(1),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Names {
    pub(super) async fn user(&self, uid: u32) -> Result<Arc<str>, NameError> {
        self.look_up(Id::User(uid)).await
    }

    pub(super) async fn group(&self, gid: u32) -> Result<Arc<str>, NameError> {
        self.look_up(Id::Group(gid)).await
    }

    async fn look_up(&self, id: Id) -> Result<Arc<str>, NameError> {
        let name = match self.remembered(id) {
            Some(name) => name,
            None => match tokio::time::timeout(LONGEST_WAIT, self.ask(id)).await {
                Ok(answer) => answer?,
                Err(_) => return Err(NameError::Silent(id.describe())),
            },
        };
        name.ok_or_else(|| NameError::None(id.describe()))
    }

    /// Asks once, however many want to know. A name service that hangs keeps its slot until it answers,
    /// so it never takes more than a few threads; the callers go on without the name.
    async fn ask(&self, id: Id) -> Result<Option<Arc<str>>, NameError> {
        let turn = self.asking.wait(id).await;
        if let Some(name) = self.remembered(id) {
            return Ok(name);
        }
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let known = Arc::clone(&self.known);
        let answer = spawn_blocking(move || {
            let answer = id.name();
            if let Ok(name) = &answer {
                let until = Instant::now() + if name.is_some() { NAME_LASTS } else { ABSENCE_LASTS };
                known.lock().put(id, Known { name: name.clone(), until });
            }
            drop((turn, slot));
            answer
        });
        match answer.await {
            Ok(answer) => answer.map_err(|error| NameError::Failed(id.describe(), error)),
            Err(_) => Err(NameError::Failed(id.describe(), Errno::EIO)), // it panicked, or this is the end
        }
    }

    fn remembered(&self, id: Id) -> Option<Option<Arc<str>>> {
        let known = self.known.lock().get(&id)?;
        (known.until > Instant::now()).then_some(known.name)
    }
}

impl Id {
    fn name(self) -> Result<Option<Arc<str>>, Errno> {
        let found = match self {
            Self::User(uid) => User::from_uid(Uid::from_raw(uid)).map(|user| user.map(|user| user.name)),
            Self::Group(gid) => {
                Group::from_gid(Gid::from_raw(gid)).map(|group| group.map(|group| group.name))
            }
        };
        match found {
            Ok(name) => Ok(name.map(Into::into)),
            Err(Errno::ENOENT | Errno::ESRCH) => Ok(None), // how some name services say "no such"
            Err(error) => Err(error),
        }
    }

    fn describe(self) -> String {
        match self {
            Self::User(uid) => format!("uid {uid}"),
            Self::Group(gid) => format!("gid {gid}"),
        }
    }
}

/// How long a name service may take until the caller goes on without.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
const NAME_LASTS: Duration = Duration::from_secs(60);
const ABSENCE_LASTS: Duration = Duration::from_secs(5);
const REMEMBERED: usize = 4096;
const AT_ONCE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn root_has_a_name_and_an_unused_number_has_none() {
        let names = Names::default();
        assert_eq!(names.user(0).await.as_deref(), Ok("root"));
        assert_eq!(names.group(0).await.as_deref(), Ok("root"));
        assert_eq!(names.user(3_999_999_999).await, Err(NameError::None("uid 3999999999".into())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_asked_for_once_a_minute() {
        let names = Names::default();
        names.user(0).await.expect("root has a name");
        assert!(names.remembered(Id::User(0)).is_some());
        tokio::time::advance(NAME_LASTS).await;
        assert!(names.remembered(Id::User(0)).is_none());
        assert_eq!(names.user(0).await.as_deref(), Ok("root"));
    }
}
