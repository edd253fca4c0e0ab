mod grants;
mod interleaving;
mod labels;
mod lines;
mod lowered;
mod moments;
mod policies;

use registry::scope::Label;

/// What a task knows after reading `files/secret`.
fn secret() -> Label {
    Label {
        confidentiality: 2.try_into().unwrap(),
        categories: ["pay".parse().unwrap()].into(),
        ..Label::default()
    }
}

/// What a task knows after reading `mail/inbox`.
fn untrusted() -> Label {
    Label { sources: ["mail".parse().unwrap()].into(), ..Label::default() }
}
