//! What must happen when something happens: one file for each event, to be read from the top to the bottom.

pub(crate) mod task_ended;
