//! The attestors that this program brings along: one line each.

use crate::{WorkloadAttestor, workload::unix::Unix};

pub(crate) fn workload() -> Vec<Box<dyn WorkloadAttestor>> {
    vec![Box::new(Unix::new())]
}
