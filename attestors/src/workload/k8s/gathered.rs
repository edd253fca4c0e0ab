//! [`Gathered`]: objects of Kubernetes as they were last heard of, and how to wait for one that is not yet
//! among them.

use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::Connected;
use crate::{
    News,
    kube::{Access, Answer, Trouble},
};

/// Something that may be told otherwise later.
pub(super) trait Revised {
    /// Whether `newer` takes back something that this says, or adds to it, of a container that both know.
    fn is_contradicted_by(&self, newer: &Self) -> bool;
}

/// Objects by their key, gathered by a task that ends with this.
#[derive(Debug)]
pub(super) struct Gathered<T> {
    known: watch::Receiver<Known<T>>,
    demand: Arc<Notify>,
    task: AbortHandle,
}

/// All objects, and how far they can be believed.
#[derive(Debug)]
pub(super) struct Known<T> {
    objects: HashMap<String, Arc<T>>,
    as_of: AsOf,
    /// The last question that failed, if none has succeeded since.
    trouble: Option<(Instant, String)>,
}

/// When that was what there is.
#[derive(Clone, Copy, Debug)]
enum AsOf {
    Never,
    Then(Instant),
    /// Each change is heard of.
    Now,
}

/// An object, and why it is no newer, if it should be.
#[derive(Debug)]
pub(super) struct Found<T> {
    pub(super) object: Arc<T>,
    pub(super) trouble: Option<String>,
}

/// Why there is no object.
#[derive(Debug)]
pub(super) enum Absent {
    /// It is not among those that there are.
    Unknown,
    /// Nobody answers.
    Trouble(String),
}

/// Where a gathering task puts what it hears, and from where it hears that somebody waits.
pub(super) struct Desk<T> {
    pub(super) known: watch::Sender<Known<T>>,
    pub(super) demand: Arc<Notify>,
    news: Arc<News>,
}

impl<T: Revised + Send + Sync + 'static> Gathered<T> {
    /// Gathered by a task of this kind, which tells whatever is no longer as it was.
    pub(super) fn by<F: Future<Output = ()> + Send + 'static>(
        news: Arc<News>,
        gather: impl FnOnce(Desk<T>) -> F,
    ) -> Self {
        let (sender, known) = watch::channel(Known::default());
        let demand = Arc::new(Notify::new());
        let task = tokio::spawn(gather(Desk { known: sender, demand: Arc::clone(&demand), news }));
        Self { known, demand, task: task.abort_handle() }
    }

    /// Gathered by asking for all of them whenever somebody waits, but not more often than twice a second, and
    /// every few seconds as long as somebody is connected of whom something was said.
    pub(super) fn by_asking<F>(
        access: Access,
        read: fn(Answer) -> F,
        connected: Arc<Connected>,
        news: Arc<News>,
    ) -> Self
    where
        F: Future<Output = Result<HashMap<String, Arc<T>>, Trouble>> + Send + 'static,
    {
        Self::by(news, move |desk| async move {
            loop {
                while timeout(LOOK_EVERY, desk.demand.notified()).await.is_err() && !connected.is_anybody() {}
                let began = Instant::now();
                let asking = async { read(access.get("/pods").await?).await };
                match timeout_at(began + PATIENCE, asking).await {
                    Ok(Ok(objects)) => desk.replace(objects, began),
                    Ok(Err(trouble)) => desk.trouble(&trouble),
                    Err(_) => desk.trouble(&Trouble::Late { address: access.address.clone() }),
                }
                sleep_until(began + BETWEEN).await;
            }
        })
    }

    /// The object with this key, once it is as wanted. Waits for one that is not there yet, if it is
    /// `awaited`, and takes one that is no longer new where nobody answers.
    pub(super) async fn find(
        &self,
        key: &str,
        awaited: bool,
        wanted: impl Fn(&T) -> bool,
    ) -> Result<Found<T>, Absent> {
        let began = Instant::now();
        let mut known = self.known.clone();
        loop {
            {
                let known = known.borrow_and_update();
                if let Some(answer) = known.look(key, &wanted, began, Instant::now()) {
                    return answer;
                }
                if !awaited && known.is_new(Instant::now()) {
                    return Err(Absent::Unknown);
                }
            }
            self.demand.notify_one();
            if !matches!(timeout_at(began + LONGEST_SEARCH, known.changed()).await, Ok(Ok(()))) {
                return Err(Absent::Unknown);
            }
        }
    }
}

impl<T> Drop for Gathered<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<T: Revised> Desk<T> {
    /// These are all that there were at that time.
    pub(super) fn replace(&self, objects: HashMap<String, Arc<T>>, then: Instant) {
        self.put(Known { objects, as_of: AsOf::Then(then), trouble: None });
    }

    /// These are all that there are, and each change will be told.
    pub(super) fn replace_and_follow(&self, objects: HashMap<String, Arc<T>>) {
        self.put(Known { objects, as_of: AsOf::Now, trouble: None });
    }

    fn put(&self, known: Known<T>) {
        let before = self.known.send_replace(known);
        let known = self.known.borrow();
        // Of one that is listed no more nothing else is said: its processes are about to end, or a kubelet that
        // has just started does not know them yet.
        let mut revised = before.objects.iter().filter_map(|(key, was)| Some((was, known.objects.get(key)?)));
        let is_news = revised.any(|(was, is)| was.is_contradicted_by(is));
        drop(known);
        if is_news {
            self.news.tell();
        }
    }

    /// One object is so now, or is no more.
    pub(super) fn change(&self, key: String, object: Option<T>) {
        let mut is_news = false;
        self.known.send_modify(|known| match object {
            Some(object) => {
                is_news = known.objects.get(&key).is_some_and(|was| was.is_contradicted_by(&object));
                known.objects.insert(key, Arc::new(object));
            }
            None => drop(known.objects.remove(&key)),
        });
        if is_news {
            self.news.tell();
        }
    }

    /// No further changes will be told.
    pub(super) fn lost(&self) {
        self.known.send_modify(|known| {
            if matches!(known.as_of, AsOf::Now) {
                known.as_of = AsOf::Then(Instant::now());
            }
        });
    }

    /// Nobody answered.
    pub(super) fn trouble(&self, trouble: &Trouble) {
        self.known.send_modify(|known| known.trouble = Some((Instant::now(), trouble.to_string())));
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.known.borrow().objects.len()
    }
}

impl<T> Known<T> {
    /// What to answer somebody who has been waiting since `began`; nothing if it may still come.
    fn look(
        &self,
        key: &str,
        wanted: impl Fn(&T) -> bool,
        began: Instant,
        now: Instant,
    ) -> Option<Result<Found<T>, Absent>> {
        let age = self.age(now);
        let object = self.objects.get(key).filter(|object| wanted(object));
        let object = object.filter(|_| age.is_some_and(|age| age <= KEPT)).cloned();
        let trouble =
            self.trouble.as_ref().filter(|(at, _)| *at >= began).map(|(_, trouble)| trouble.clone());
        match (object, trouble) {
            (Some(object), _) if self.is_new(now) => Some(Ok(Found { object, trouble: None })),
            (Some(object), Some(trouble)) => Some(Ok(Found { object, trouble: Some(trouble) })),
            (None, Some(trouble)) => Some(Err(Absent::Trouble(trouble))),
            (_, None) => None,
        }
    }

    fn is_new(&self, now: Instant) -> bool {
        self.age(now).is_some_and(|age| age <= NEW)
    }

    fn age(&self, now: Instant) -> Option<Duration> {
        match self.as_of {
            AsOf::Never => None,
            AsOf::Then(then) => Some(now.duration_since(then)),
            AsOf::Now => Some(Duration::ZERO),
        }
    }
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self { objects: HashMap::new(), as_of: AsOf::Never, trouble: None }
    }
}

/// How long an answer counts as what is.
const NEW: Duration = Duration::from_secs(5);
/// How long an answer is used where nobody gives another.
const KEPT: Duration = Duration::from_secs(3600);
/// How long to wait for a container that nobody knows.
pub(super) const LONGEST_SEARCH: Duration = Duration::from_secs(3);
/// Between one question and the next.
const BETWEEN: Duration = Duration::from_millis(500);
/// How long a changed label may go unnoticed where the kubelet is asked.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// For a whole answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    impl Revised for u8 {
        fn is_contradicted_by(&self, newer: &Self) -> bool {
            self != newer
        }
    }

    fn at(then: AsOf, trouble: Option<Instant>) -> Known<u8> {
        let objects = HashMap::from([("a".to_owned(), Arc::new(7))]);
        Known { objects, as_of: then, trouble: trouble.map(|at| (at, "away".to_owned())) }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_used_while_it_is_new_and_longer_only_where_there_is_no_other() {
        let t = Instant::now();
        let any = |_: &u8| true;
        let after = |seconds| t + Duration::from_secs(seconds);
        let good = at(AsOf::Then(t), None);
        assert!(matches!(good.look("a", any, after(5), after(5)), Some(Ok(Found { trouble: None, .. }))));
        assert!(good.look("a", any, after(6), after(6)).is_none(), "it is asked again");
        assert!(good.look("b", any, after(1), after(1)).is_none(), "it may be there a moment later");
        let away = at(AsOf::Then(t), Some(after(60)));
        assert!(away.look("a", any, after(61), after(61)).is_none(), "that was before this question");
        assert!(matches!(
            away.look("a", any, after(60), after(61)),
            Some(Ok(Found { trouble: Some(_), .. }))
        ));
        assert!(matches!(away.look("b", any, after(60), after(61)), Some(Err(Absent::Trouble(_)))));
        let long_away = at(AsOf::Then(t), Some(after(3601)));
        assert!(matches!(long_away.look("a", any, after(3601), after(3601)), Some(Err(Absent::Trouble(_)))));
        let followed = at(AsOf::Now, None);
        assert!(matches!(followed.look("a", any, after(9_999), after(9_999)), Some(Ok(_))));
        assert!(followed.look("a", |_| false, t, t).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_share_one_answer_and_one_that_nobody_knows_is_given_up() {
        let news = Arc::new(News::default());
        let heard = news.listen();
        let gathered = Gathered::<u8>::by(news, |desk| async move {
            for _ in 0..2 {
                desk.demand.notified().await;
                tokio::time::sleep(Duration::from_secs(1)).await;
                desk.replace(HashMap::from([("a".to_owned(), Arc::new(7))]), Instant::now());
            }
            std::future::pending::<()>().await;
        });
        let all = (0..100).map(|_| gathered.find("a", true, |_| true));
        for found in futures::future::join_all(all).await {
            assert_eq!(*found.expect("it is there").object, 7);
        }
        let began = Instant::now();
        assert!(matches!(gathered.find("b", true, |_| true).await, Err(Absent::Unknown)));
        assert_eq!(began.elapsed(), LONGEST_SEARCH);
        assert!(matches!(gathered.find("b", false, |_| true).await, Err(Absent::Unknown)));
        assert_eq!(began.elapsed(), LONGEST_SEARCH, "and the next time it is not waited for");
        assert!(!heard.has_changed().expect("somebody tells"), "what was said again is no news");
    }

    #[tokio::test]
    async fn what_is_told_otherwise_is_news_and_what_is_new_or_gone_is_none() {
        let news = Arc::new(News::default());
        let mut heard = news.listen();
        let (known, _) = watch::channel(Known::<u8>::default());
        let desk = Desk { known, demand: Arc::default(), news };
        let mut is_news = || heard.has_changed().expect("somebody tells") && *heard.borrow_and_update() > 0;
        let all = |objects: &[(&str, u8)]| {
            objects.iter().map(|(key, value)| ((*key).to_owned(), Arc::new(*value))).collect()
        };
        desk.replace(all(&[("a", 1)]), Instant::now());
        assert!(!is_news());
        desk.replace(all(&[("b", 1)]), Instant::now());
        desk.replace_and_follow(all(&[("a", 2), ("b", 1)]));
        assert!(!is_news());
        desk.change("b".to_owned(), Some(2));
        assert!(is_news());
        desk.change("b".to_owned(), None);
        desk.change("b".to_owned(), Some(3));
        assert!(!is_news());
        desk.replace(all(&[("a", 2), ("b", 4)]), Instant::now());
        assert!(is_news());
    }
}
