//! What runs on each node: it knows its processes, keeps their keys, and follows its server.

mod alarms;
mod identities;
mod jitter;
mod matching;
mod replica;
mod rotation;
mod spine;
#[cfg(test)]
mod testing;
