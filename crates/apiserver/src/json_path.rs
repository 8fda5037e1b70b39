//! The part of JSONPath that printer columns use: `.a.b`, `.a\.b`, `[0]`, `[-1]`, `[*]`, `.*`, `['a\.b']`,
//! `[?(@.type=='Ready')]`, optionally in braces. What is not there is simply not found.

use serde_json::Value;

/// Longest path, in bytes.
pub const PATH_BYTES_MAX: usize = 1024;

/// A parsed path.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

/// Why a path cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the JSONPath {path:?} cannot be read: {fault}")]
pub struct JsonPathError {
    /// The path as it was given, cut where it is too long.
    pub path: String,
    /// What is wrong with it.
    pub fault: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    Every,
    Filter { field: Vec<String>, test: Test },
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    Exists,
    Equal(Value),
    NotEqual(Value),
}

impl JsonPath {
    /// Reads a path.
    pub fn parse(path: &str) -> Result<Self, JsonPathError> {
        let fault = |fault: String| JsonPathError {
            path: path.chars().take(PATH_BYTES_MAX).collect(),
            fault,
        };
        if path.len() > PATH_BYTES_MAX {
            return Err(fault(format!("it is longer than {PATH_BYTES_MAX} bytes")));
        }
        let inner = path.trim();
        let inner = inner
            .strip_prefix('{')
            .and_then(|inner| inner.strip_suffix('}'))
            .unwrap_or(inner);
        let mut rest = inner.strip_prefix('$').unwrap_or(inner);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = step(rest).map_err(fault)?;
            steps.extend(step);
            rest = after;
        }
        Ok(Self { steps })
    }

    /// Everything at the path, in the order of the document.
    #[must_use]
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        self.steps.iter().fold(vec![value], |values, step| {
            values.into_iter().flat_map(|value| step.select(value)).collect()
        })
    }
}

impl Step {
    fn select<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match (self, value) {
            (Self::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
            (Self::Index(index), Value::Array(items)) => {
                let index = if *index < 0 {
                    *index + items.len() as i64
                } else {
                    *index
                };
                usize::try_from(index)
                    .ok()
                    .and_then(|index| items.get(index))
                    .into_iter()
                    .collect()
            }
            (Self::Every, Value::Array(items)) => items.iter().collect(),
            (Self::Every, Value::Object(map)) => map.values().collect(),
            (Self::Filter { field, test }, Value::Array(items)) => items
                .iter()
                .filter(|item| test.passes(field.iter().try_fold(*item, |at, name| at.get(name))))
                .collect(),
            _ => Vec::new(),
        }
    }
}

impl Test {
    fn passes(&self, found: Option<&Value>) -> bool {
        match self {
            Self::Exists => found.is_some(),
            Self::Equal(wanted) => found == Some(wanted),
            Self::NotEqual(wanted) => found.is_some_and(|found| found != wanted),
        }
    }
}

/// Reads the first step of `text`; a lone dot is none.
fn step(text: &str) -> Result<(Option<Step>, &str), String> {
    if let Some(rest) = text.strip_prefix('[') {
        return bracket(rest).map(|(step, rest)| (Some(step), rest));
    }
    if text.starts_with("..") {
        return Err("`..` is not supported; write the whole path".into());
    }
    let text = text.strip_prefix('.').unwrap_or(text);
    if text.is_empty() || text.starts_with('[') {
        return Ok((None, text));
    }
    if let Some(rest) = text.strip_prefix('*') {
        return Ok((Some(Step::Every), rest));
    }
    let (name, rest) = field_name(text)?;
    Ok((Some(Step::Field(name)), rest))
}

/// Reads a name up to the next unescaped `.` or `[`.
fn field_name(text: &str) -> Result<(String, &str), String> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((index, char)) = chars.next() {
        match char {
            '\\' => name.push(chars.next().ok_or("a backslash stands at its end")?.1),
            '.' | '[' => {
                end = index;
                break;
            }
            '{' | '}' | '(' | ')' | ']' | '\'' | '"' | '=' | '?' => {
                return Err(format!("unexpected {char:?} in a field name"));
            }
            char => name.push(char),
        }
    }
    if name.is_empty() {
        return Err("a field name is empty".into());
    }
    Ok((name, text.get(end..).unwrap_or_default()))
}

/// Reads what follows `[`, and the `]`.
fn bracket(text: &str) -> Result<(Step, &str), String> {
    let text = text.trim_start();
    let (step, rest) = if let Some(rest) = text.strip_prefix('*') {
        (Step::Every, rest)
    } else if let Some(rest) = text.strip_prefix("?(") {
        filter(rest)?
    } else if text.starts_with(['\'', '"']) {
        let (name, rest) = quoted(text)?;
        (Step::Field(name), rest)
    } else {
        let end = text.find(']').ok_or("a ] is missing")?;
        let (number, rest) = text.split_at_checked(end).ok_or("a ] is missing")?;
        let index = number
            .trim()
            .parse()
            .map_err(|_| format!("{number:?} is not an index"))?;
        (Step::Index(index), rest)
    };
    let rest = rest.trim_start().strip_prefix(']').ok_or("a ] is missing")?;
    Ok((step, rest))
}

/// Reads a text in single or double quotes.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut chars = text.char_indices();
    let quote = chars.next().map(|(_, quote)| quote).ok_or("a quote is missing")?;
    let mut plain = String::new();
    while let Some((index, char)) = chars.next() {
        match char {
            '\\' => plain.push(chars.next().ok_or("a backslash stands at its end")?.1),
            char if char == quote => {
                return Ok((plain, text.get(index + char.len_utf8()..).unwrap_or_default()));
            }
            char => plain.push(char),
        }
    }
    Err("a quote is not closed".into())
}

/// Reads what follows `?(`, and the `)`.
fn filter(text: &str) -> Result<(Step, &str), String> {
    let mut rest = text
        .trim_start()
        .strip_prefix('@')
        .ok_or("a filter must start with @")?;
    let mut field = Vec::new();
    while let Some(after) = rest.strip_prefix('.') {
        let end = after
            .find(|char: char| ".=!) <>".contains(char))
            .unwrap_or(after.len());
        let (name, after) = after.split_at_checked(end).ok_or("a filter is cut off")?;
        if name.is_empty() {
            return Err("a field name in a filter is empty".into());
        }
        field.push(name.to_owned());
        rest = after;
    }
    rest = rest.trim_start();
    let (test, rest) = if let Some(after) = rest.strip_prefix("==") {
        let (value, after) = literal(after)?;
        (Test::Equal(value), after)
    } else if let Some(after) = rest.strip_prefix("!=") {
        let (value, after) = literal(after)?;
        (Test::NotEqual(value), after)
    } else {
        (Test::Exists, rest)
    };
    let rest = rest
        .trim_start()
        .strip_prefix(')')
        .ok_or("a filter may only compare with == or != and must end with )")?;
    Ok((Step::Filter { field, test }, rest))
}

/// Reads a quoted text, a number, `true`, `false` or `null`.
fn literal(text: &str) -> Result<(Value, &str), String> {
    let text = text.trim_start();
    if text.starts_with(['\'', '"']) {
        return quoted(text).map(|(plain, rest)| (Value::String(plain), rest));
    }
    let (word, rest) = text
        .split_at_checked(text.find(')').unwrap_or(text.len()))
        .ok_or("a filter is cut off")?;
    let value = serde_json::from_str(word.trim())
        .map_err(|_| format!("{word:?} is neither a quoted text, a number, true, false nor null"))?;
    Ok((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn paths_find_what_they_name() {
        let object = json!({
            "metadata": {"labels": {"a.b/c": "x"}},
            "list": [{"n": 1}, {"n": 2}],
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "n": 3},
                {"type": "Other", "status": "False"},
            ]},
        });
        for (path, wanted) in [
            (".metadata.labels['a\\.b/c']", json!(["x"])),
            (".metadata.labels.a\\.b/c", json!(["x"])),
            ("{.list[0].n}", json!([1])),
            ("$.list[-1].n", json!([2])),
            (".list[*].n", json!([1, 2])),
            (".list.*.n", json!([1, 2])),
            (".list[5].n", json!([])),
            (".list[-5].n", json!([])),
            ("list[0]['n']", json!([1])),
            (".status.conditions[?(@.type=='Ready')].status", json!(["True"])),
            (
                ".status.conditions[?(@.type == \"Other\")].status",
                json!(["False"]),
            ),
            (".status.conditions[?(@.type!='Ready')].status", json!(["False"])),
            (".status.conditions[?(@.n==3)].type", json!(["Ready"])),
            (".status.conditions[?(@.n)].type", json!(["Ready"])),
            (".status.conditions[?(@.type=='Gone')].status", json!([])),
            (".a.b.c", json!([])),
        ] {
            let found: Vec<_> = JsonPath::parse(path)
                .unwrap()
                .find(&object)
                .into_iter()
                .cloned()
                .collect();
            assert_eq!(Value::Array(found), wanted, "{path}");
        }
        assert_eq!(
            JsonPath::parse(".metadata.labels.*").unwrap().find(&object),
            [&json!("x")]
        );
        assert_eq!(JsonPath::parse("{}").unwrap().find(&object), [&object]);
    }

    #[test]
    fn bad_paths_are_explained() {
        for path in [
            ".a[",
            ".a[x]",
            ".a['b",
            "..a",
            ".a[?(@.b=='x']",
            ".a[?(b=='x')]",
            ".a[?(@.b=~'x')]",
            ".a[?(@.b==x)]",
            ".a]",
            ".a\\",
            ".a[?(@.==1)]",
        ] {
            let error = JsonPath::parse(path).unwrap_err();
            assert!(error.to_string().contains("cannot be read: "), "{path}");
        }
        assert!(JsonPath::parse(&"a".repeat(PATH_BYTES_MAX + 1)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_answered(path in "\\PC*") {
            let _ = JsonPath::parse(&path).map(|path| path.find(&json!({"a": [1, {"b": 2}]})).len());
        }

        #[test]
        fn any_sequence_of_marks_is_answered(path in "[.\\[\\]{}()?@='\"\\\\*a0-]{0,24}") {
            let _ = JsonPath::parse(&path).map(|path| path.find(&json!({"a": [1, {"a": 2}]})).len());
        }
    }
}
