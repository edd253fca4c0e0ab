//! What administrators ask for, in the product's own types. How it is asked over the wire is in `glue`.

pub(crate) mod apply;
pub(crate) mod approve;
pub(crate) mod authorized;
pub(crate) mod form;
pub(crate) mod governed;
pub(crate) mod list;
pub(crate) mod policies;
pub(crate) mod status;
pub(crate) mod tokens;
