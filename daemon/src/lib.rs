//! What every daemon needs around its own work: its configuration file, logs, health and metrics,
//! an orderly end, the wall clock, and files that nobody else may read.
//!
//! It knows nothing of servers and agents; each room owns the struct that its configuration fills.

pub mod clock;
pub mod config;
pub mod disk;
mod files;
pub mod health;
pub mod layout;
pub mod logs;
pub mod metrics;
mod ready;
mod shutdown;

pub use clock::now_unix_millis;
pub use config::{ConfigError, load};
pub use disk::{DirLock, DiskError, lock_dir, private_dir, public_dir, read_private, write_private};
pub use files::raise_open_files;
pub use health::Health;
pub use layout::Layout;
pub use logs::init_logs;
pub use metrics::{Counter, Gauge, Metrics};
pub use ready::Ready;
pub use shutdown::{Shutdown, Trigger};
