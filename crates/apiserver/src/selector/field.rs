//! Field selectors: `metadata.name=x,status.phase!=Running` (apimachinery `pkg/fields/selector.go`).

use super::{SelectorError, check_length};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

/// A conjunction of comparisons of fields with texts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    field: String,
    value: String,
    equal: bool,
}

impl FieldSelector {
    /// Reads a selector; the empty text selects everything.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        check_length(text)?;
        let terms = split_terms(text)
            .into_iter()
            .filter(|term| !term.is_empty())
            .map(|term| parse_term(text, term))
            .collect::<Result<_, _>>()?;
        Ok(Self { terms })
    }

    /// The fields that are compared, for the check that a kind supports them.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.terms.iter().map(|term| term.field.as_str())
    }

    /// Whether an object of this namespace and name may be selected; `false` is certain.
    #[must_use]
    pub fn may_match(&self, namespace: &str, name: &str) -> bool {
        self.terms.iter().all(|term| {
            let known = match term.field.as_str() {
                "metadata.name" => name,
                "metadata.namespace" => namespace,
                _ => return true,
            };
            (known == term.value) == term.equal
        })
    }

    /// The text that a field must be, where one is said.
    #[must_use]
    pub fn exact(&self, field: &str) -> Option<&str> {
        let term = self.terms.iter().find(|term| term.equal && term.field == field)?;
        Some(&term.value)
    }

    /// Whether an object is selected. A missing field counts as the empty text.
    #[must_use]
    pub fn matches(&self, object: &Value) -> bool {
        self.terms
            .iter()
            .all(|term| (field_text(object, &term.field) == term.value) == term.equal)
    }
}

/// What is written reads as the same selector.
impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let operator = if term.equal { "=" } else { "!=" };
            write!(f, "{comma}{}{operator}{}", term.field, escape(&term.value))?;
        }
        Ok(())
    }
}

/// Puts backslashes before `\\`, `,` and `=`.
fn escape(plain: &str) -> String {
    plain
        .replace('\\', "\\\\")
        .replace(',', "\\,")
        .replace('=', "\\=")
}

/// The text of the field at a dotted path.
fn field_text<'v>(object: &'v Value, path: &str) -> Cow<'v, str> {
    let found = path.split('.').try_fold(object, |value, name| value.get(name));
    match found {
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(Value::Bool(value)) => Cow::Owned(value.to_string()),
        Some(Value::Number(value)) => Cow::Owned(value.to_string()),
        _ => Cow::Borrowed(""),
    }
}

/// Cuts at commas that no backslash escapes.
fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                terms.push(text.get(start..index).unwrap_or_default());
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(text.get(start..).unwrap_or_default());
    terms
}

fn parse_term(whole: &str, term: &str) -> Result<Term, SelectorError> {
    let mut escaped = false;
    for (index, byte) in term.bytes().enumerate() {
        if escaped || byte == b'\\' {
            escaped = !escaped;
            continue;
        }
        let rest = term.get(index..).unwrap_or_default();
        for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = rest.strip_prefix(operator) {
                let field = term.get(..index).unwrap_or_default().to_owned();
                return Ok(Term {
                    field,
                    value: unescape(value)?,
                    equal,
                });
            }
        }
    }
    Err(SelectorError(format!(
        "invalid selector: '{whole}'; can't understand '{term}'"
    )))
}

/// Takes the backslashes off `\\`, `\,` and `\=`.
fn unescape(text: &str) -> Result<String, SelectorError> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => plain.push(escaped),
                Some(other) => {
                    return Err(SelectorError(format!(
                        "invalid field selector: invalid escape sequence: \\{other}"
                    )));
                }
                None => {
                    return Err(SelectorError(
                        "invalid field selector: invalid escape sequence: \\".into(),
                    ));
                }
            },
            ',' | '=' => {
                return Err(SelectorError(format!(
                    "invalid field selector: unescaped character in value: {char}"
                )));
            }
            char => plain.push(char),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn objects_are_selected_by_field() {
        let object = json!({"metadata": {"name": "a,b", "namespace": "x"}, "spec": {"on": true, "n": 3}});
        for (selector, wanted) in [
            ("", true),
            ("metadata.name=a\\,b", true),
            ("metadata.name==a\\,b,metadata.namespace=x", true),
            ("metadata.name!=a\\,b", false),
            ("metadata.namespace=y", false),
            ("spec.on=true,spec.n=3", true),
            ("spec.missing=", true),
            ("spec.missing!=x", true),
            ("metadata=x", false),
        ] {
            assert_eq!(
                FieldSelector::parse(selector).unwrap().matches(&object),
                wanted,
                "{selector}"
            );
        }
    }

    #[test]
    fn the_fields_of_a_selector_are_known() {
        let selector = FieldSelector::parse("metadata.name=x,involvedObject.uid!=u").unwrap();
        assert_eq!(
            selector.fields().collect::<Vec<_>>(),
            ["metadata.name", "involvedObject.uid"]
        );
    }

    #[test]
    fn bad_selectors_are_explained() {
        for (selector, wanted) in [
            (
                "metadata.name",
                "invalid selector: 'metadata.name'; can't understand 'metadata.name'",
            ),
            ("a=b=c", "invalid field selector: unescaped character in value: ="),
            ("a=\\x", "invalid field selector: invalid escape sequence: \\x"),
            ("a=b\\", "invalid field selector: invalid escape sequence: \\"),
        ] {
            assert_eq!(FieldSelector::parse(selector).unwrap_err().to_string(), wanted);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "\\PC*") {
            let _ = FieldSelector::parse(&text).map(|selector| selector.matches(&json!({})));
        }

        #[test]
        fn what_is_written_reads_the_same(text in "[a-c.!=, \\\\]{0,24}") {
            if let Ok(selector) = FieldSelector::parse(&text) {
                prop_assert_eq!(FieldSelector::parse(&selector.to_string()), Ok(selector));
            }
        }

        #[test]
        fn escaped_values_are_found(value in "[a-z,=\\\\]{0,8}") {
            let selector = FieldSelector::parse(&format!("metadata.name={}", escape(&value))).unwrap();
            let object = json!({"metadata": {"name": value}});
            prop_assert!(selector.matches(&object));
        }
    }
}
