//! Labels of isolation domains. Memory does not forget: a domain keeps its label when its task ends.

use std::collections::BTreeMap;

use registry::scope::Label;

/// The labels of processes and of the cgroups that they live in.
///
/// A process's label follows its descent. A cgroup's is the join of all that ever lived in it, and counts for
/// whoever's descent is not known: a daemon that forked twice, a process that was there before the agent.
/// `P` names a process so that its name is never used again (pid, start time and boot), `C` a cgroup.
#[derive(Clone, Debug)]
pub struct DomainLabels<P, C> {
    processes: BTreeMap<P, Label>,
    cgroups: BTreeMap<C, Label>,
}

/// Where a process comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Descent<P> {
    /// It was started from outside of every domain, by the agent or a container runtime: it knows nothing yet.
    Outside,
    /// It was forked by this one.
    Of(P),
    /// Nobody saw.
    Unknown,
}

impl<P, C> Default for DomainLabels<P, C> {
    fn default() -> Self {
        Self { processes: BTreeMap::new(), cgroups: BTreeMap::new() }
    }
}

impl<P: Ord + Clone, C: Ord + Clone> DomainLabels<P, C> {
    /// Takes a process in, with the label that its descent gives it. One that is known keeps the higher of
    /// both. Of a forked one whose parent is not known, the cgroup's label counts.
    pub fn enter(&mut self, process: &P, cgroup: &C, descent: &Descent<P>) -> Label {
        let inherited = match descent {
            Descent::Outside => Label::default(),
            Descent::Of(parent) => match self.processes.get(parent) {
                Some(label) => label.clone(),
                None => self.of_cgroup(cgroup),
            },
            Descent::Unknown => self.of_cgroup(cgroup),
        };
        let label = self.processes.entry(process.clone()).or_default();
        *label = label.join(&inherited);
        let label = label.clone();
        self.raise_cgroup(cgroup, &label);
        label
    }

    /// Joins a label into a process and its cgroup.
    pub fn raise(&mut self, process: &P, cgroup: &C, label: &Label) {
        let known = match self.processes.get(process) {
            Some(known) => known.join(label),
            None => self.of_cgroup(cgroup).join(label),
        };
        self.raise_cgroup(cgroup, &known);
        self.processes.insert(process.clone(), known);
    }

    /// Joins a label into a cgroup and every process that is given: those that live in it.
    pub fn raise_all(&mut self, cgroup: &C, members: &[P], label: &Label) {
        self.raise_cgroup(cgroup, label);
        members.iter().for_each(|member| self.raise(member, cgroup, label));
    }

    /// What a process may remember; of one that is not known, what its cgroup may.
    pub fn of(&self, process: &P, cgroup: &C) -> Label {
        self.processes.get(process).cloned().unwrap_or_else(|| self.of_cgroup(cgroup))
    }

    /// What anything in a cgroup may remember.
    pub fn of_cgroup(&self, cgroup: &C) -> Label {
        self.cgroups.get(cgroup).cloned().unwrap_or_default()
    }

    /// Forgets a process that has ended. Its children have theirs already; its cgroup keeps what it knew.
    pub fn gone(&mut self, process: &P) {
        self.processes.remove(process);
    }

    /// Forgets a cgroup that was removed: nothing can live in it again.
    pub fn cgroup_gone(&mut self, cgroup: &C) {
        self.cgroups.remove(cgroup);
    }

    fn raise_cgroup(&mut self, cgroup: &C, label: &Label) {
        let known = self.cgroups.entry(cgroup.clone()).or_default();
        *known = known.join(label);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret() -> Label {
        Label { confidentiality: 2.try_into().unwrap(), ..Label::default() }
    }

    #[test]
    fn a_label_follows_a_fork_and_an_orphan_gets_its_cgroups() {
        let mut labels = DomainLabels::<u32, &str>::default();
        labels.enter(&1, &"web", &Descent::Outside);
        labels.raise(&1, &"web", &secret());
        assert_eq!(labels.enter(&2, &"web", &Descent::Of(1)), secret());
        labels.gone(&1);
        assert_eq!(labels.of(&2, &"web"), secret(), "ending forgets nothing that a child may know");
        assert_eq!(labels.enter(&3, &"web", &Descent::Unknown), secret());
        assert_eq!(
            labels.enter(&4, &"web", &Descent::Of(1)),
            secret(),
            "the parent is gone: the cgroup's counts"
        );
        assert_eq!(labels.enter(&5, &"web", &Descent::Outside), Label::default());
    }

    #[test]
    fn a_process_that_moves_takes_its_label_along() {
        let mut labels = DomainLabels::<u32, &str>::default();
        labels.enter(&1, &"a", &Descent::Outside);
        labels.raise(&1, &"a", &secret());
        labels.enter(&1, &"b", &Descent::Outside);
        assert_eq!(labels.of_cgroup(&"b"), secret());
    }

    proptest! {
        #[test]
        fn whatever_happens_a_living_processs_label_never_falls(
            steps in prop::collection::vec((0..4_u8, 0..6_u32, 0..6_u32, 0..2_u8, 0..4_u8), 1..60),
        ) {
            let mut labels = DomainLabels::<u32, u8>::default();
            for (step, process, other, cgroup, level) in steps {
                let before: Vec<_> = (0..6).map(|p| labels.of(&p, &cgroup)).collect();
                let label = Label { confidentiality: level.try_into().unwrap(), ..Label::default() };
                let dead = (step == 3).then_some(process);
                match step {
                    0 => drop(labels.enter(&process, &cgroup, &Descent::Of(other))),
                    1 => drop(labels.enter(&process, &cgroup, &Descent::Unknown)),
                    2 => labels.raise(&process, &cgroup, &label),
                    _ => labels.gone(&process),
                }
                for (p, before) in (0..6).zip(before) {
                    // A process that is seen for the first time has a parent to take after instead of its cgroup.
                    if dead != Some(p) && !(step == 0 && p == process) {
                        prop_assert!(before.is_within(&labels.of(&p, &cgroup)));
                    }
                }
            }
        }
    }
}
