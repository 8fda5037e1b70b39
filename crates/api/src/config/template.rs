//! The part of Go's templates that ConfigMaps use: fields, entries of maps, conditions, literals, trimmed blanks.
//!
//! `{{.Name}}`, `{{.Labels.team}}`, `{{index .Labels "a/b"}}`, `{{if .X}}…{{else if .Y}}…{{else}}…{{end}}`, `{{"text"}}`,
//! `{{/* note */}}` and `{{- … -}}`. A map that lacks a key gives nothing. What a template may speak of is known
//! beforehand ([`Shape`]), so filling it cannot fail.

use std::collections::BTreeMap;

/// Longest text of a template, in bytes.
const TEMPLATE_BYTES_MAX: usize = 4096;
/// Deepest nesting of conditions.
const DEPTH_MAX: usize = 16;

/// What a template may speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The template's name, for errors.
    pub name: &'static str,
    /// Fields that are texts.
    pub texts: &'static [&'static str],
    /// Fields that are maps of texts.
    pub maps: &'static [&'static str],
}

/// What a template is filled with.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    /// Fields that are texts.
    pub texts: &'a [(&'a str, &'a str)],
    /// Fields that are maps of texts.
    pub maps: &'a [(&'a str, &'a BTreeMap<String, String>)],
}

/// A template that was found to be well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Value(Operand),
    If {
        condition: Operand,
        then: Vec<Part>,
        otherwise: Vec<Part>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Operand {
    Literal(String),
    Field(String),
    Entry { map: String, key: String },
}

/// A piece of the source.
enum Token<'s> {
    Text(&'s str),
    Action(&'s str),
}

/// How a list of parts ended.
#[derive(Debug, PartialEq, Eq)]
enum End<'s> {
    OfSource,
    Else(&'s str),
    OfIf,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong, with the template's name and the line.
    pub fn parse(shape: Shape, source: &str) -> Result<Self, String> {
        if source.len() > TEMPLATE_BYTES_MAX {
            return Err(format!(
                "template: {}: longer than {TEMPLATE_BYTES_MAX} bytes",
                shape.name
            ));
        }
        let mut parser = Parser {
            shape,
            rest: source,
            line: 1,
            trim: false,
        };
        let (parts, end) = parser.parts(0)?;
        if end != End::OfSource {
            return Err(parser.wrong("{{else}} or {{end}} without {{if}}"));
        }
        Ok(Self {
            source: source.to_owned(),
            parts,
        })
    }

    /// A template of our own. One that is not well-formed stands for itself.
    pub(crate) fn trusted(shape: Shape, source: &str) -> Self {
        Self::parse(shape, source).unwrap_or_else(|_| Self {
            source: source.to_owned(),
            parts: vec![Part::Value(Operand::Literal(source.to_owned()))],
        })
    }

    /// As it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text.
    #[must_use]
    pub fn fill(&self, values: &Values<'_>) -> String {
        let mut text = String::new();
        fill(&self.parts, values, &mut text);
        text
    }
}

fn fill(parts: &[Part], values: &Values<'_>, text: &mut String) {
    for part in parts {
        match part {
            Part::Value(operand) => text.push_str(operand.value(values)),
            Part::If {
                condition,
                then,
                otherwise,
            } => {
                let chosen = if condition.value(values).is_empty() {
                    otherwise
                } else {
                    then
                };
                fill(chosen, values, text);
            }
        }
    }
}

impl Operand {
    fn value<'v>(&'v self, values: &Values<'v>) -> &'v str {
        match self {
            Self::Literal(text) => text,
            Self::Field(field) => values
                .texts
                .iter()
                .find(|(name, _)| name == field)
                .map_or("", |(_, text)| text),
            Self::Entry { map, key } => values
                .maps
                .iter()
                .find(|(name, _)| name == map)
                .and_then(|(_, map)| map.get(key))
                .map_or("", String::as_str),
        }
    }
}

struct Parser<'s> {
    shape: Shape,
    rest: &'s str,
    line: usize,
    /// Whether blanks at the start of the next text go.
    trim: bool,
}

impl<'s> Parser<'s> {
    fn wrong(&self, why: impl std::fmt::Display) -> String {
        format!("template: {}:{}: {why}", self.shape.name, self.line)
    }

    fn next(&mut self) -> Result<Option<Token<'s>>, String> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let Some(action) = self.rest.strip_prefix("{{") else {
            let end = self.rest.find("{{").unwrap_or(self.rest.len());
            let (text, rest) = self.rest.split_at(end);
            self.rest = rest;
            self.line += text.matches('\n').count();
            let text = if std::mem::take(&mut self.trim) {
                text.trim_start()
            } else {
                text
            };
            let text = if rest.starts_with("{{- ") {
                text.trim_end()
            } else {
                text
            };
            return Ok(Some(Token::Text(text)));
        };
        self.trim = false;
        let end = end_of_action(action)
            .ok_or_else(|| self.wrong(format_args!("unclosed action in {:?}", self.rest)))?;
        let (inside, rest) = action.split_at(end);
        self.rest = rest.get(2..).unwrap_or_default();
        self.line += inside.matches('\n').count();
        let inside = inside.strip_prefix("- ").unwrap_or(inside);
        let inside = match inside.strip_suffix(" -") {
            Some(inside) => {
                self.trim = true;
                inside
            }
            None => inside,
        };
        Ok(Some(Token::Action(inside.trim())))
    }

    fn parts(&mut self, depth: usize) -> Result<(Vec<Part>, End<'s>), String> {
        if depth > DEPTH_MAX {
            return Err(self.wrong(format_args!("{{{{if}}}} nested more than {DEPTH_MAX} times")));
        }
        let mut parts = Vec::new();
        while let Some(token) = self.next()? {
            let action = match token {
                Token::Text(text) => {
                    parts.push(Part::Value(Operand::Literal(text.to_owned())));
                    continue;
                }
                Token::Action(action) => action,
            };
            if action.starts_with("/*") && action.ends_with("*/") {
                continue;
            }
            let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((action, ""));
            match word {
                "if" => parts.push(self.condition(rest.trim(), depth + 1)?),
                "else" => return Ok((parts, End::Else(rest.trim()))),
                "end" => return Ok((parts, End::OfIf)),
                _ => parts.push(Part::Value(self.operand(action)?)),
            }
        }
        Ok((parts, End::OfSource))
    }

    /// What follows `{{if …}}` up to its `{{end}}`.
    fn condition(&mut self, condition: &str, depth: usize) -> Result<Part, String> {
        let condition = self.operand(condition)?;
        let (then, end) = self.parts(depth)?;
        let otherwise = match end {
            End::OfSource => return Err(self.wrong("{{if}} without {{end}}")),
            End::OfIf => Vec::new(),
            End::Else("") => match self.parts(depth)? {
                (otherwise, End::OfIf) => otherwise,
                _ => return Err(self.wrong("{{else}} without {{end}}")),
            },
            End::Else(more) => match more.strip_prefix("if ") {
                // One {{end}} closes them all.
                Some(next) => vec![self.condition(next.trim(), depth + 1)?],
                None => return Err(self.wrong(format_args!("unexpected {more:?} after else"))),
            },
        };
        Ok(Part::If {
            condition,
            then,
            otherwise,
        })
    }

    fn operand(&self, text: &str) -> Result<Operand, String> {
        if let Some(literal) = quoted(text) {
            return Ok(Operand::Literal(literal));
        }
        if let Some(arguments) = text.strip_prefix("index ") {
            let arguments = arguments.trim();
            let (map, key) = arguments
                .split_once(char::is_whitespace)
                .unwrap_or((arguments, ""));
            let map = map.strip_prefix('.').unwrap_or(map);
            let key = quoted(key.trim()).ok_or_else(|| {
                self.wrong(format_args!(
                    "index takes a map and a key in quotes, not {arguments:?}"
                ))
            })?;
            return self.entry(map, key);
        }
        let Some(path) = text.strip_prefix('.') else {
            return Err(self.wrong(format_args!(
                "{text:?} is not understood; use a field such as .{}, index, if, else or end",
                self.shape.texts.first().copied().unwrap_or_default()
            )));
        };
        match path.split_once('.') {
            Some((map, key)) if is_identifier(key) => self.entry(map, key.to_owned()),
            None if self.shape.texts.contains(&path) => Ok(Operand::Field(path.to_owned())),
            None if self.shape.maps.contains(&path) => Err(self.wrong(format_args!(
                ".{path} is a map; name an entry of it: {{{{index .{path} \"key\"}}}}"
            ))),
            _ => Err(self.no_field(path)),
        }
    }

    fn entry(&self, map: &str, key: String) -> Result<Operand, String> {
        if self.shape.maps.contains(&map) {
            let map = map.to_owned();
            return Ok(Operand::Entry { map, key });
        }
        Err(self.no_field(map))
    }

    fn no_field(&self, field: &str) -> String {
        let all: Vec<String> = self
            .shape
            .texts
            .iter()
            .chain(self.shape.maps)
            .map(|name| format!(".{name}"))
            .collect();
        self.wrong(format_args!("no field .{field}; there are {}", all.join(", ")))
    }
}

/// Where an action ends, its `}}` not counted; one within quotes does not.
fn end_of_action(action: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in action.char_indices() {
        match quote {
            Some('"') if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '`' => quote = Some(c),
            None if action.get(at..).is_some_and(|rest| rest.starts_with("}}")) => return Some(at),
            None => {}
        }
    }
    None
}

/// What stands in quotes.
fn quoted(text: &str) -> Option<String> {
    if let Some(raw) = text.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) {
        return (!raw.contains('`')).then(|| raw.to_owned());
    }
    // Go's and JSON's escapes differ in what no host name has.
    text.starts_with('"')
        .then(|| serde_json::from_str::<String>(text).ok())
        .flatten()
}

fn is_identifier(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_alphabetic() || c == '_')
        && chars.all(|c| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHAPE: Shape = Shape {
        name: "t",
        texts: &["Name", "Empty"],
        maps: &["Labels"],
    };

    fn filled(source: &str) -> Result<String, String> {
        let labels = BTreeMap::from([
            ("a".to_owned(), "1".to_owned()),
            ("x/y".to_owned(), "2".to_owned()),
        ]);
        let values = Values {
            texts: &[("Name", "n"), ("Empty", "")],
            maps: &[("Labels", &labels)],
        };
        Template::parse(SHAPE, source).map(|template| template.fill(&values))
    }

    #[test]
    fn templates_are_filled_as_go_does() {
        for (source, wanted) in [
            ("", ""),
            ("plain", "plain"),
            ("{{.Name}}-{{ .Name }}", "n-n"),
            (
                "{{.Labels.a}}{{index .Labels \"x/y\"}}{{index .Labels `no`}}",
                "12",
            ),
            ("a {{- .Name -}} b", "anb"),
            ("{{\"}}\"}}{{/* note */}}", "}}"),
            ("{{if .Name}}y{{else}}n{{end}}", "y"),
            ("{{if .Empty}}y{{else}}n{{end}}", "n"),
            ("{{if .Empty}}1{{else if .Labels.a}}2{{else}}3{{end}}4", "24"),
            ("{{if .Labels.no}}1{{end}}", ""),
        ] {
            assert_eq!(filled(source).as_deref(), Ok(wanted), "{source}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_the_line() {
        for (source, wanted) in [
            ("\n{{.Name", "template: t:2: unclosed action in \"{{.Name\""),
            (
                "{{.No}}",
                "template: t:1: no field .No; there are .Name, .Empty, .Labels",
            ),
            (
                "{{.Labels}}",
                "template: t:1: .Labels is a map; name an entry of it: {{index .Labels \"key\"}}",
            ),
            (
                "{{.Name.x}}",
                "template: t:1: no field .Name; there are .Name, .Empty, .Labels",
            ),
            ("{{if .Name}}", "template: t:1: {{if}} without {{end}}"),
            ("{{end}}", "template: t:1: {{else}} or {{end}} without {{if}}"),
            (
                "{{printf \"x\"}}",
                "template: t:1: \"printf \\\"x\\\"\" is not understood; use a field such as .Name, index, if, else or end",
            ),
            (
                "{{index .Labels a}}",
                "template: t:1: index takes a map and a key in quotes, not \".Labels a\"",
            ),
        ] {
            assert_eq!(filled(source), Err(wanted.to_owned()), "{source}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_an_answer(text in "[{}\"`. a-zA-Z/*-]{0,60}|(\\{\\{(if|else|end|index|\\.Name|\\.Labels)? ?\\}?\\}?){0,40}") {
            let _ = filled(&text);
        }

        #[test]
        fn text_without_braces_stands_for_itself(text in "[^{]{0,60}") {
            prop_assert_eq!(filled(&text), Ok(text));
        }
    }
}
