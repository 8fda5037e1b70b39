//! Label selectors, with the whole grammar of Kubernetes (apimachinery `pkg/labels/selector.go`):
//! `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b)`, `a`, `!a`, `a>1`, `a<1`, joined by commas.

use super::{SelectorError, check_length};
use serde_json::{Map, Value};
use std::fmt;

/// Longest label value and longest name part of a label key, in bytes.
const LABEL_PART_BYTES_MAX: usize = 63;
/// Longest prefix of a label key, in bytes: a DNS subdomain.
const LABEL_PREFIX_BYTES_MAX: usize = 253;

/// A conjunction of requirements on labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Exists,
    DoesNotExist,
    In(Vec<String>),
    NotIn(Vec<String>),
    GreaterThan(i64),
    LessThan(i64),
}

impl LabelSelector {
    /// Reads a selector; the empty text selects everything.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        check_length(text)?;
        let mut parser = Parser {
            tokens: tokens(text)?,
            next: 0,
        };
        parser.selector().map_err(|SelectorError(message)| {
            SelectorError(format!("unable to parse requirement: {message}"))
        })
    }

    /// Whether the labels of an object are selected.
    #[must_use]
    pub fn matches(&self, object: &Value) -> bool {
        self.matches_labels(object.pointer("/metadata/labels").and_then(Value::as_object))
    }

    /// Whether an object of which this is the JSON, as we write it, may be selected; `false` is certain. Looking through
    /// text costs a hundredth of reading it.
    #[must_use]
    pub fn may_match(&self, json: &str) -> bool {
        self.requirements
            .iter()
            .all(|Requirement { key, test }| match test {
                // Keys and values of labels need no escapes in JSON.
                Test::In(values) => values
                    .iter()
                    .any(|value| json.contains(&format!("\"{key}\":\"{value}\""))),
                Test::Exists | Test::GreaterThan(_) | Test::LessThan(_) => {
                    json.contains(&format!("\"{key}\":"))
                }
                Test::DoesNotExist | Test::NotIn(_) => true,
            })
    }

    /// Whether these labels are selected.
    #[must_use]
    pub fn matches_labels(&self, labels: Option<&Map<String, Value>>) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = labels
                .and_then(|labels| labels.get(&requirement.key))
                .and_then(Value::as_str);
            requirement.test.passes(value)
        })
    }
}

impl Test {
    fn passes(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match self {
            Self::Exists => value.is_some(),
            Self::DoesNotExist => value.is_none(),
            Self::In(values) => value.is_some_and(|value| values.iter().any(|one| one == value)),
            Self::NotIn(values) => value.is_none_or(|value| values.iter().all(|one| one != value)),
            Self::GreaterThan(bound) => number().is_some_and(|value| value > *bound),
            Self::LessThan(bound) => number().is_some_and(|value| value < *bound),
        }
    }
}

/// Canonical: sets for `=` and `!=` too. What is written reads as the same selector.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Requirement { key, test }) in self.requirements.iter().enumerate() {
            f.write_str(if index > 0 { "," } else { "" })?;
            match test {
                Test::Exists => f.write_str(key),
                Test::DoesNotExist => write!(f, "!{key}"),
                Test::In(values) => write!(f, "{key} in ({})", values.join(",")),
                Test::NotIn(values) => write!(f, "{key} notin ({})", values.join(",")),
                Test::GreaterThan(bound) => write!(f, "{key}>{bound}"),
                Test::LessThan(bound) => write!(f, "{key}<{bound}"),
            }?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'t> {
    Word(&'t str),
    /// One of `, ( ) ! = == != < >`.
    Symbol(&'t str),
}

impl<'t> Token<'t> {
    fn text(self) -> &'t str {
        match self {
            Self::Word(text) | Self::Symbol(text) => text,
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token<'_>>, SelectorError> {
    let is_special = |char: char| "=!(),<>".contains(char);
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let Some(first) = rest.chars().next() else {
            return Ok(tokens);
        };
        let length = if ["==", "!="].iter().any(|two| rest.starts_with(two)) {
            2
        } else if is_special(first) {
            1
        } else {
            rest.find(|char: char| is_special(char) || " \t\r\n".contains(char))
                .unwrap_or(rest.len())
        };
        let (text, after) = rest
            .split_at_checked(length)
            .ok_or_else(|| SelectorError("not a selector".into()))?;
        tokens.push(if is_special(first) {
            Token::Symbol(text)
        } else {
            Token::Word(text)
        });
        rest = after;
    }
}

struct Parser<'t> {
    tokens: Vec<Token<'t>>,
    next: usize,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Option<Token<'t>> {
        self.tokens.get(self.next).copied()
    }

    fn take(&mut self) -> Option<Token<'t>> {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = self.peek() == Some(Token::Symbol(symbol));
        if found {
            self.next += 1;
        }
        found
    }

    fn expected<T>(&self, found: Option<Token<'_>>, wanted: &str) -> Result<T, SelectorError> {
        let found = found.map_or("", Token::text);
        Err(SelectorError(format!("found '{found}', expected: {wanted}")))
    }

    fn selector(&mut self) -> Result<LabelSelector, SelectorError> {
        let mut requirements = Vec::new();
        if self.peek().is_none() {
            return Ok(LabelSelector::default());
        }
        if !matches!(self.peek(), Some(Token::Word(_) | Token::Symbol("!"))) {
            return self.expected(self.peek(), "!, identifier, or 'end of string'");
        }
        loop {
            requirements.push(self.requirement()?);
            match self.take() {
                None => return Ok(LabelSelector { requirements }),
                Some(Token::Symbol(",")) => {
                    if !matches!(self.peek(), Some(Token::Word(_) | Token::Symbol("!"))) {
                        return self.expected(self.peek(), "identifier after ','");
                    }
                }
                other => return self.expected(other, "',' or 'end of string'"),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let negated = self.take_symbol("!");
        let key = match self.take() {
            Some(Token::Word(key)) => key.to_owned(),
            other => return self.expected(other, "identifier"),
        };
        validate_key(&key)?;
        let test = match self.peek() {
            None | Some(Token::Symbol(",")) if negated => Test::DoesNotExist,
            None | Some(Token::Symbol(",")) => Test::Exists,
            other if negated => return self.expected(other, "',' or 'end of string'"),
            Some(operator) => {
                self.next += 1;
                self.test(operator)?
            }
        };
        Ok(Requirement { key, test })
    }

    fn test(&mut self, operator: Token<'t>) -> Result<Test, SelectorError> {
        match operator.text() {
            "=" | "==" => Ok(Test::In(vec![self.value()?])),
            "!=" => Ok(Test::NotIn(vec![self.value()?])),
            "in" => Ok(Test::In(self.values()?)),
            "notin" => Ok(Test::NotIn(self.values()?)),
            ">" => Ok(Test::GreaterThan(self.number()?)),
            "<" => Ok(Test::LessThan(self.number()?)),
            _ => self.expected(Some(operator), "in, notin, =, ==, !=, gt, lt"),
        }
    }

    /// The value after `=`; nothing there means the empty value.
    fn value(&mut self) -> Result<String, SelectorError> {
        let value = match self.peek() {
            None | Some(Token::Symbol(",")) => return Ok(String::new()),
            Some(Token::Word(value)) => value.to_owned(),
            other => return self.expected(other, "identifier"),
        };
        self.next += 1;
        validate_value(0, &value)?;
        Ok(value)
    }

    fn number(&mut self) -> Result<i64, SelectorError> {
        let value = self.value()?;
        value.parse().map_err(|_| {
            SelectorError(format!(
                "values[0]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
            ))
        })
    }

    /// `(a,b)`; between two commas is the empty value.
    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        if !self.take_symbol("(") {
            return self.expected(self.peek(), "'('");
        }
        let mut values = Vec::new();
        loop {
            let value = match self.peek() {
                Some(Token::Word(value)) => {
                    self.next += 1;
                    value.to_owned()
                }
                _ => String::new(),
            };
            validate_value(values.len(), &value)?;
            values.push(value);
            match self.take() {
                Some(Token::Symbol(",")) => {}
                Some(Token::Symbol(")")) => return Ok(values),
                other => return self.expected(other, "',' or ')'"),
            }
        }
    }
}

fn is_name_part(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.bytes().all(inner) && edge(text.bytes().next()) && edge(text.bytes().next_back())
}

fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= LABEL_PREFIX_BYTES_MAX
        && text.split('.').all(|part| {
            let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
        })
}

fn validate_key(key: &str) -> Result<(), SelectorError> {
    let (prefix, name) = key
        .split_once('/')
        .map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let fault = if prefix == Some("") {
        "prefix part must be non-empty"
    } else if prefix.is_some_and(|prefix| !is_dns_subdomain(prefix)) {
        "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
         and must start and end with an alphanumeric character (e.g. 'example.com')"
    } else if name.is_empty() {
        "name part must be non-empty"
    } else if name.len() > LABEL_PART_BYTES_MAX {
        "name part must be no more than 63 bytes"
    } else if !is_name_part(name) {
        "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
         alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc')"
    } else {
        return Ok(());
    };
    Err(SelectorError(format!("key: Invalid value: {key:?}: {fault}")))
}

fn validate_value(index: usize, value: &str) -> Result<(), SelectorError> {
    let fault = if value.len() > LABEL_PART_BYTES_MAX {
        "must be no more than 63 bytes"
    } else if !value.is_empty() && !is_name_part(value) {
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
         start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345')"
    } else {
        return Ok(());
    };
    Err(SelectorError(format!(
        "values[{index}]: Invalid value: {value:?}: {fault}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn objects_are_selected_by_label() {
        let object = json!({"metadata": {"labels": {"app": "hello", "n": "5", "e.x/tier": "", "in": "y"}}});
        for (selector, wanted) in [
            ("", true),
            ("app=hello", true),
            ("app==hello,n=5", true),
            (" app = hello , n = 5 ", true),
            ("app!=hello", false),
            ("gone!=hello", true),
            ("app", true),
            ("!app", false),
            ("!gone", true),
            ("app in (hello,other)", true),
            ("app in (other)", false),
            ("app notin (other)", true),
            ("gone notin (other)", true),
            ("gone in (other)", false),
            ("e.x/tier=", true),
            ("e.x/tier=,app", true),
            ("e.x/tier in ()", true),
            ("e.x/tier in (a,)", true),
            ("n>4", true),
            ("n>5", false),
            ("n<6,n", true),
            ("app>1", false),
            ("in=y", true),
            ("in in (in,y)", true),
        ] {
            assert_eq!(
                LabelSelector::parse(selector).unwrap().matches(&object),
                wanted,
                "{selector}"
            );
        }
        assert!(LabelSelector::parse("!a,b!=c").unwrap().matches(&json!({})));
    }

    #[test]
    fn bad_selectors_are_explained() {
        for (selector, wanted) in [
            (",", "found ',', expected: !, identifier, or 'end of string'"),
            ("a=b,", "found '', expected: identifier after ','"),
            ("a b", "found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a in b", "found 'b', expected: '('"),
            ("a in (b", "found '', expected: ',' or ')'"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("!a=b", "found '=', expected: ',' or 'end of string'"),
            ("a=(", "found '(', expected: identifier"),
        ] {
            let message = LabelSelector::parse(selector).unwrap_err().to_string();
            assert_eq!(
                message,
                format!("unable to parse requirement: {wanted}"),
                "{selector}"
            );
        }
        for selector in ["-a=b", "a=-b", "/a", "A.B/x", "a/b/c", "a>x", "é=1"] {
            let message = LabelSelector::parse(selector).unwrap_err().to_string();
            assert!(message.contains("Invalid value"), "{selector}: {message}");
        }
        assert!(LabelSelector::parse(&format!("a={}", "x".repeat(64))).is_err());
        assert!(LabelSelector::parse(&"a".repeat(SELECTOR_TOO_LONG)).is_err());
    }

    const SELECTOR_TOO_LONG: usize = super::super::SELECTOR_BYTES_MAX + 1;

    proptest! {
        #[test]
        fn any_text_is_answered(text in "\\PC*") {
            let _ = LabelSelector::parse(&text).map(|selector| selector.matches(&json!({})));
        }

        #[test]
        fn any_sequence_of_tokens_is_answered(
            tokens in prop::collection::vec(prop::sample::select(vec!["a", "in", "notin", "(", ")", ",", "=", "==", "!=", "!", "<", ">", " ", "1"]), 0..12)
        ) {
            let _ = LabelSelector::parse(&tokens.concat()).map(|selector| selector.matches(&json!({})));
        }

        #[test]
        fn what_is_written_reads_the_same(
            terms in prop::collection::vec("(!?[a-z]{1,3})|([a-c]/[a-z]{1,3}(=|==|!=)[A-Za-z0-9]{0,3})|([a-z]{1,3} (in|notin) ?\\([a-c]{0,2}(,[a-c]{0,2}){0,2}\\))|([a-z][<>][0-9]{1,3})", 0..4),
            n in "[0-9]{0,3}",
        ) {
            let selector = LabelSelector::parse(&terms.join(",")).unwrap();
            let written = selector.to_string();
            let object = json!({"metadata": {"labels": {"a": n, "b": "c", "in": "a"}}});
            let again = LabelSelector::parse(&written).unwrap();
            prop_assert_eq!(again.matches(&object), selector.matches(&object));
            prop_assert_eq!(again, selector);
        }

        #[test]
        fn not_in_is_the_opposite_of_in(value in "[a-c]", set in prop::collection::vec("[a-c]", 1..3)) {
            let object = json!({"metadata": {"labels": {"k": value}}});
            let set = set.join(",");
            let inside = LabelSelector::parse(&format!("k in ({set})")).unwrap().matches(&object);
            let outside = LabelSelector::parse(&format!("k notin ({set})")).unwrap().matches(&object);
            prop_assert_ne!(inside, outside);
        }
    }
}
