//! Labels of isolation domains. Memory does not forget: a domain keeps its label when its task ends.

use std::collections::BTreeMap;

use registry::scope::Label;

/// The labels of processes and of the cgroups that they live in.
///
/// A cgroup's is the join of all that ever lived in it, and counts for whoever has none of its own: a daemon that
/// forked twice, a process that was there before the agent.
/// `P` names a process so that its name is never used again (pid, start time and boot), `C` a cgroup.
#[derive(Clone, Debug)]
pub struct DomainLabels<P, C> {
    processes: BTreeMap<P, Label>,
    cgroups: BTreeMap<C, Label>,
}

impl<P, C> Default for DomainLabels<P, C> {
    fn default() -> Self {
        Self { processes: BTreeMap::new(), cgroups: BTreeMap::new() }
    }
}

impl<P: Ord + Clone, C: Ord + Clone> DomainLabels<P, C> {
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
    fn whoever_has_no_label_of_its_own_has_that_of_its_cgroup() {
        let mut labels = DomainLabels::<u32, &str>::default();
        labels.raise(&1, &"web", &Label::default());
        labels.raise(&2, &"web", &secret());
        assert_eq!(labels.of(&1, &"web"), Label::default(), "it was known before");
        assert_eq!(labels.of(&3, &"web"), secret(), "it may come from anybody there");
        assert_eq!(labels.of(&3, &"mail"), Label::default());
        labels.cgroup_gone(&"web");
        assert_eq!(labels.of(&3, &"web"), Label::default(), "nothing can live there again");
    }

    #[test]
    fn a_process_that_moves_takes_its_label_along() {
        let mut labels = DomainLabels::<u32, &str>::default();
        labels.raise(&1, &"a", &secret());
        labels.raise(&1, &"b", &Label::default());
        assert_eq!(labels.of_cgroup(&"b"), secret());
    }

    proptest! {
        #[test]
        fn whatever_happens_a_living_processs_label_never_falls(
            steps in prop::collection::vec((any::<bool>(), 0..6_u32, 0..6_u32, 0..2_u8, 0..4_u8), 1..60),
        ) {
            let mut labels = DomainLabels::<u32, u8>::default();
            for (alone, process, other, cgroup, level) in steps {
                let before: Vec<_> = (0..6).map(|p| labels.of(&p, &cgroup)).collect();
                let label = Label { confidentiality: level.try_into().unwrap(), ..Label::default() };
                match alone {
                    true => labels.raise(&process, &cgroup, &label),
                    false => labels.raise_all(&cgroup, &[process, other], &label),
                }
                for (p, before) in (0..6).zip(before) {
                    prop_assert!(before.is_within(&labels.of(&p, &cgroup)));
                }
            }
        }
    }
}
