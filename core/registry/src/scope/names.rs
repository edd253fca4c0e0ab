//! Names of tools, arguments and the like; each has passed its rule.

use crate::objects::checked_text;

fn is_word(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

fn is_tool(text: &str) -> bool {
    text.split_once('/').is_some_and(|(resource, tool)| {
        is_word(resource, 64)
            && (1..=128).contains(&tool.len())
            && tool.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._/:".contains(&b))
    })
}

checked_text! {
    /// What guards something: an MCP server, a destination, a store.
    ResourceName,
    |text| is_word(text, 64),
    "is not the name of a resource: 1 to 64 letters, digits, dots, dashes and underscores"
}

checked_text! {
    /// One tool of one resource, `resource/tool`.
    ToolName,
    is_tool,
    "is not the name of a tool: resource/tool, of letters, digits and any of -._/:"
}

checked_text! {
    /// One tool, or all tools of a resource: `resource/tool` or `resource/*`.
    ToolPattern,
    |text| is_tool(text) || text.strip_suffix("/*").is_some_and(|resource| is_word(resource, 64)),
    "is not resource/tool or resource/*"
}

checked_text! {
    /// An argument of a tool, as the tool's schema calls it.
    ArgName,
    |text| (1..=128).contains(&text.len()) && !text.chars().any(char::is_control),
    "is not the name of an argument: 1 to 128 bytes without control characters"
}

checked_text! {
    /// A parameter of a mandate.
    ParamName,
    |text| is_word(text, 64),
    "is not the name of a parameter: 1 to 64 letters, digits, dots, dashes and underscores"
}

checked_text! {
    /// A category of data, for example `payroll`.
    Category,
    |text| is_word(text, 64),
    "is not a category: 1 to 64 letters, digits, dots, dashes and underscores"
}

checked_text! {
    /// Something untrusted that was read, for example `tickets`.
    Source,
    |text| is_word(text, 64),
    "is not a source: 1 to 64 letters, digits, dots, dashes and underscores"
}

checked_text! {
    /// Where a node stands, for example `prod`.
    Environment,
    |text| is_word(text, 64),
    "is not an environment: 1 to 64 letters, digits, dots, dashes and underscores"
}

checked_text! {
    /// What a mandate is for, as policies read it, for example `ticket-triage`.
    Purpose,
    |text| is_word(text, 64),
    "is not the id of a purpose: 1 to 64 letters, digits, dots, dashes and underscores"
}

impl Environment {
    /// That of nodes of which nobody has said any.
    pub fn unnamed() -> Self {
        "default".parse().expect("this is a word")
    }
}

impl ToolName {
    /// The resource that the tool belongs to.
    pub fn resource(&self) -> ResourceName {
        // INVARIANT: a tool's name has a resource's name before its first slash.
        let (resource, _) = self.as_str().split_once('/').unwrap_or_default();
        resource.parse().expect("the rule of tool names includes that of resources")
    }

    /// What the resource itself calls the tool.
    pub fn tool(&self) -> &str {
        self.as_str().split_once('/').map_or("", |(_, tool)| tool)
    }
}

impl ToolPattern {
    /// Whether the pattern stands for this tool.
    pub fn matches(&self, tool: &ToolName) -> bool {
        self.covers(tool.as_str())
    }

    /// What both stand for.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        if other.covers(self.as_str()) {
            Some(self.clone())
        } else {
            self.covers(other.as_str()).then(|| other.clone())
        }
    }

    fn covers(&self, text: &str) -> bool {
        match self.as_str().strip_suffix('*') {
            // The slash is part of what must be there, so `a/*` never stands for `ab/c`.
            Some(prefix) => text.starts_with(prefix),
            None => text == self.as_str(),
        }
    }
}
