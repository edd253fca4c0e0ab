//! Lists of objects, and the API server's watch, which tells of each change of them.

use std::{collections::HashMap, fmt, io::Read, marker::PhantomData, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, SeqAccess, Visitor},
};
use tokio::time::{sleep, timeout};

use super::gathered::{Desk, Revised};
use crate::kube::{Access, Answer, Trouble};

/// What is kept of an object of Kubernetes.
pub(super) trait Object: Revised + Sized + Send + Sync + 'static {
    /// How Kubernetes writes it.
    type Written: DeserializeOwned + Send + 'static;

    /// By what it is found.
    fn key(written: &Self::Written) -> &str;

    /// What is kept of it, if anything.
    fn of(written: Self::Written) -> Option<Self>;
}

/// A list, and as of when.
pub(super) struct List<T> {
    pub(super) objects: HashMap<String, Arc<T>>,
    version: String,
}

/// Reads a list one object at a time, so that of each only what is kept is in memory.
pub(super) async fn list<T: Object>(answer: Answer) -> Result<List<T>, Trouble> {
    answer.read(LONGEST_LIST, |bytes| parse(bytes)).await
}

pub(super) fn parse<T: Object>(bytes: &mut dyn Read) -> Result<List<T>, serde_json::Error> {
    let WrittenList { items, metadata } = serde_json::from_reader(bytes)?;
    Ok(List { objects: items.0, version: metadata.resource_version })
}

/// Follows the objects at `path`, which ends where another parameter can be added, as long as anybody wants.
pub(super) fn keep_following<T: Object>(
    access: Access,
    path: String,
) -> impl FnOnce(Desk<T>) -> BoxFuture<'static, ()> {
    move |desk| {
        Box::pin(async move {
            loop {
                let trouble = follow(&access, &path, &desk).await;
                desk.lost();
                if let Err(trouble) = trouble {
                    desk.trouble(&trouble);
                    sleep(PAUSE).await;
                }
            }
        })
    }
}

/// Lists and then hears of changes, until the API server ends that, as it does from time to time.
async fn follow<T: Object>(access: &Access, path: &str, desk: &Desk<T>) -> Result<(), Trouble> {
    let late = || Trouble::Late { address: access.address.clone() };
    let listing = async { list(access.get(path).await?).await };
    let List { objects, version } = timeout(PATIENCE, listing).await.map_err(|_| late())??;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric();
    if version.is_empty() || !version.bytes().all(allowed) {
        return Err(unusable(access, "its list has no version"));
    }
    let watch = format!(
        "{path}&watch=true&resourceVersion={version}&allowWatchBookmarks=true&timeoutSeconds={}",
        LONGEST_WATCH.as_secs()
    );
    let mut lines = access.get(&watch).await?.lines();
    desk.replace_and_follow(objects);
    loop {
        // Bookmarks come every minute also where nothing changes.
        let Some(line) = timeout(SILENCE, lines.next(LONGEST_LINE)).await.map_err(|_| late())?? else {
            return Ok(());
        };
        let (key, object) = match told::<T>(&line).map_err(|why| unusable(access, why))? {
            Told::Nothing => continue,
            Told::TheEnd => return Ok(()),
            Told::Change(key, object) => (key, object),
        };
        if desk.count() >= MOST_OBJECTS && object.is_some() {
            return Err(unusable(access, "there are too many objects"));
        }
        desk.change(key, object);
    }
}

/// What a line of a watch says.
#[derive(Debug)]
pub(super) enum Told<T> {
    /// That it goes on.
    Nothing,
    /// Above all that the version is too old by now.
    TheEnd,
    /// How an object is now, if it is there and anything of it is kept.
    Change(String, Option<T>),
}

pub(super) fn told<T: Object>(line: &[u8]) -> Result<Told<T>, &'static str> {
    let event: Event<'_> = serde_json::from_slice(line).map_err(|_| "it is no event")?;
    match event.kind {
        "BOOKMARK" => return Ok(Told::Nothing),
        "ADDED" | "MODIFIED" | "DELETED" => {}
        _ => return Ok(Told::TheEnd),
    }
    let changed: Changed<T::Written> =
        serde_json::from_slice(line).map_err(|_| "an object has another form")?;
    let key = T::key(&changed.object).to_owned();
    let object = if event.kind == "DELETED" { None } else { T::of(changed.object) };
    Ok(Told::Change(key, object))
}

fn unusable(access: &Access, why: &str) -> Trouble {
    Trouble::Unusable { address: access.address.clone(), why: why.to_owned() }
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
}

/// The same event, if its object is one of those that are followed.
#[derive(Deserialize)]
struct Changed<W> {
    object: W,
}

#[derive(Deserialize)]
#[serde(bound = "T: Object")]
struct WrittenList<T> {
    items: Items<T>,
    #[serde(default)]
    metadata: ListMetadata,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    #[serde(default)]
    resource_version: String,
}

struct Items<T>(HashMap<String, Arc<T>>);

impl<'de, T: Object> Deserialize<'de> for Items<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneByOne(PhantomData))
    }
}

struct OneByOne<T>(PhantomData<T>);

impl<'de, T: Object> Visitor<'de> for OneByOne<T> {
    type Value = Items<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    /// A kubelet without pods.
    fn visit_unit<E: Error>(self) -> Result<Items<T>, E> {
        Ok(Items(HashMap::new()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Items<T>, A::Error> {
        let mut objects = HashMap::new();
        while let Some(written) = items.next_element::<T::Written>()? {
            let key = T::key(&written).to_owned();
            let Some(object) = T::of(written) else { continue };
            // Nobody can say which of the two it is.
            if objects.insert(key, Arc::new(object)).is_some() {
                return Err(A::Error::custom("an object is listed twice"));
            }
            if objects.len() > MOST_OBJECTS {
                return Err(A::Error::custom("there are too many objects"));
            }
        }
        Ok(Items(objects))
    }
}

/// A node has some hundred pods of some 20 KB each.
const LONGEST_LIST: u64 = 128 << 20;
/// etcd holds no object that is longer.
const LONGEST_LINE: usize = 4 << 20;
const MOST_OBJECTS: usize = 16_384;
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_secs(90);
const LONGEST_WATCH: Duration = Duration::from_secs(300);
