//! Bytes to JSON values, strictly: what a client wrote twice, nested too deeply or cut off is found here.
//!
//! Both decoders give the same [`Decoded`]: the value (the last of two equal keys wins, as in Kubernetes) and the
//! paths of the keys that came twice, which field validation turns into `duplicate field "spec.a"`.
//! YAML booleans are those of YAML 1.2 (`true`, `false`); `yes` and `on` stay strings.

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::{Cell, RefCell};
use std::fmt;

/// Deepest nesting of lists and maps that is read.
pub const NESTING_DEPTH_MAX: usize = 100;
/// What a YAML document may grow to when its aliases are expanded, in bytes (each value counts as 16 and its text).
pub const YAML_EXPANDED_BYTES_MAX: usize = 24 * 1024 * 1024;
/// Duplicate keys that are reported; more are counted as one.
const DUPLICATE_FIELDS_MAX: usize = 100;
/// What one value counts for, beside its text, in bytes.
const VALUE_COST_BYTES: usize = 16;

/// A decoded body.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// What was written.
    pub value: Value,
    /// Paths of keys that were written more than once, for example `spec.traffic[0].percent`.
    pub duplicate_fields: Vec<String>,
}

/// Why a body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There is no body, or only white space.
    #[error("the body is empty; an object in JSON or YAML is expected")]
    Empty,
    /// The text is not UTF-8.
    #[error("the body is not valid UTF-8: byte 0x{byte:02x} at offset {offset}")]
    InvalidUtf8 {
        /// Where the first bad byte is.
        offset: usize,
        /// That byte.
        byte: u8,
    },
    /// Lists and maps are nested more than [`NESTING_DEPTH_MAX`] deep.
    #[error("the body is nested too deeply: at most {NESTING_DEPTH_MAX} levels are allowed")]
    TooDeep,
    /// YAML aliases expand to more than [`YAML_EXPANDED_BYTES_MAX`].
    #[error("the YAML body expands to more than {YAML_EXPANDED_BYTES_MAX} bytes")]
    TooLarge,
    /// Not JSON or YAML; says where.
    #[error("{0}")]
    Syntax(String),
    /// More than one YAML document.
    #[error("the body holds more than one YAML document; send one object for each request")]
    SeveralDocuments,
}

/// Reads one JSON value.
pub fn json(body: &[u8]) -> Result<Decoded, DecodeError> {
    let text = utf8(body)?;
    let reader = Reader::new(usize::MAX);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = reader
        .seed(0)
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| reader.error(&error.to_string()))?;
    Ok(reader.decoded(value))
}

/// Reads one YAML document; JSON is YAML too. Keys that are numbers or booleans become strings.
pub fn yaml(body: &[u8]) -> Result<Decoded, DecodeError> {
    let text = utf8(body)?;
    // JSON first: it is what kubectl sends, and the faster of the two.
    if text.trim_start().starts_with('{')
        && let Ok(decoded) = json(body)
    {
        return Ok(decoded);
    }
    let reader = Reader::new(YAML_EXPANDED_BYTES_MAX);
    let mut found = None;
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        let value = reader
            .seed(0)
            .deserialize(document)
            .map_err(|error| reader.error(&error.to_string()))?;
        match (&found, value) {
            (_, Value::Null) => {}
            (Some(_), _) => return Err(DecodeError::SeveralDocuments),
            (None, value) => found = Some(value),
        }
    }
    found.map(|value| reader.decoded(value)).ok_or(DecodeError::Empty)
}

fn utf8(body: &[u8]) -> Result<&str, DecodeError> {
    let text = std::str::from_utf8(body).map_err(|error| {
        let offset = error.valid_up_to();
        DecodeError::InvalidUtf8 {
            offset,
            byte: body.get(offset).copied().unwrap_or_default(),
        }
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        Err(DecodeError::Empty)
    } else {
        Ok(text)
    }
}

/// What is shared by all levels of one decoding.
struct Reader {
    path: RefCell<String>,
    duplicates: RefCell<Vec<String>>,
    budget_bytes: Cell<usize>,
    stopped: Cell<Option<Stop>>,
}

/// Why the reader, not the parser, gave up.
#[derive(Clone, Copy)]
enum Stop {
    TooDeep,
    TooLarge,
}

impl Reader {
    fn new(budget_bytes: usize) -> Self {
        Self {
            path: RefCell::default(),
            duplicates: RefCell::default(),
            budget_bytes: Cell::new(budget_bytes),
            stopped: Cell::new(None),
        }
    }

    fn seed(&self, depth: usize) -> Seed<'_> {
        Seed { reader: self, depth }
    }

    fn decoded(self, value: Value) -> Decoded {
        Decoded {
            value,
            duplicate_fields: self.duplicates.into_inner(),
        }
    }

    fn error(&self, message: &str) -> DecodeError {
        match self.stopped.get() {
            Some(Stop::TooDeep) => DecodeError::TooDeep,
            Some(Stop::TooLarge) => DecodeError::TooLarge,
            None if message.starts_with("recursion limit exceeded") => DecodeError::TooDeep,
            None if message.starts_with("repetition limit exceeded") => DecodeError::TooLarge,
            None => DecodeError::Syntax(message.to_owned()),
        }
    }

    fn spend<E: serde::de::Error>(&self, text_bytes: usize) -> Result<(), E> {
        match self
            .budget_bytes
            .get()
            .checked_sub(text_bytes.saturating_add(VALUE_COST_BYTES))
        {
            Some(rest) => {
                self.budget_bytes.set(rest);
                Ok(())
            }
            None => {
                self.stopped.set(Some(Stop::TooLarge));
                Err(E::custom("too large"))
            }
        }
    }

    /// Runs `read` with the path extended by `segment`.
    fn within<T>(&self, segment: fmt::Arguments<'_>, read: impl FnOnce() -> T) -> T {
        let length = self.path.borrow().len();
        // Writing to a String cannot fail.
        let _ = fmt::Write::write_fmt(&mut *self.path.borrow_mut(), segment);
        let result = read();
        self.path.borrow_mut().truncate(length);
        result
    }

    fn separator(&self) -> &'static str {
        if self.path.borrow().is_empty() { "" } else { "." }
    }

    fn record_duplicate(&self, key: &str) {
        let mut duplicates = self.duplicates.borrow_mut();
        if duplicates.len() < DUPLICATE_FIELDS_MAX {
            let path = format!("{}{}{key}", self.path.borrow(), self.separator());
            if !duplicates.contains(&path) {
                duplicates.push(path);
            }
        }
    }
}

/// Reads one value at a depth.
struct Seed<'r> {
    reader: &'r Reader,
    depth: usize,
}

impl Seed<'_> {
    fn deeper<E: serde::de::Error>(&self) -> Result<Self, E> {
        if self.depth >= NESTING_DEPTH_MAX {
            self.reader.stopped.set(Some(Stop::TooDeep));
            return Err(E::custom("too deep"));
        }
        Ok(Self {
            reader: self.reader,
            depth: self.depth + 1,
        })
    }

    fn scalar<E: serde::de::Error>(&self, value: Value) -> Result<Value, E> {
        self.reader.spend(0)?;
        Ok(value)
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.scalar(Value::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.scalar(value.into())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.scalar(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value)
            .ok_or_else(|| E::custom(format!("the number {value} cannot be written in JSON")))?;
        self.scalar(Value::Number(number))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        self.reader.spend(value.len())?;
        Ok(Value::String(value))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.scalar(Value::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        self.scalar(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        self.reader.spend(0)?;
        let mut items = Vec::new();
        loop {
            let seed = self.deeper()?;
            let index = items.len();
            match self
                .reader
                .within(format_args!("[{index}]"), || access.next_element_seed(seed))?
            {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        self.reader.spend(0)?;
        let mut map = Map::new();
        while let Some(key) = access.next_key_seed(KeySeed)? {
            self.reader.spend(key.len())?;
            let seed = self.deeper()?;
            let separator = self.reader.separator();
            let value = self
                .reader
                .within(format_args!("{separator}{key}"), || access.next_value_seed(seed))?;
            if map.contains_key(&key) {
                self.reader.record_duplicate(&key);
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// Reads a key; YAML allows more than strings.
struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key that is a string, a number or a boolean")
    }

    fn visit_str<E>(self, value: &str) -> Result<String, E> {
        Ok(value.to_owned())
    }

    fn visit_bool<E>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_u64<E>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_f64<E>(self, value: f64) -> Result<String, E> {
        Ok(value.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn keys_written_twice_are_named_and_the_last_wins() {
        let body = br#"{"spec":{"a":1,"list":[{"b":1,"b":2}],"a":3}}"#;
        for decoded in [super::json(body).unwrap(), yaml(body).unwrap()] {
            assert_eq!(decoded.value, json!({"spec": {"a": 3, "list": [{"b": 2}]}}));
            assert_eq!(decoded.duplicate_fields, ["spec.list[0].b", "spec.a"]);
        }
        let decoded = yaml(b"spec:\n  a: 1\n  a: 2\n").unwrap();
        assert_eq!(decoded.duplicate_fields, ["spec.a"]);
    }

    #[test]
    fn yaml_scalars_become_what_json_can_say() {
        let decoded = yaml(b"---\na: true\nb: yes\n1: one\ntrue: t\nf: 1.5\nn: ~\ns: \"1\"\n").unwrap();
        assert_eq!(
            decoded.value,
            json!({"a": true, "b": "yes", "1": "one", "true": "t", "f": 1.5, "n": null, "s": "1"})
        );
    }

    #[test]
    fn bad_bodies_say_what_is_wrong() {
        assert_eq!(super::json(b"  "), Err(DecodeError::Empty));
        assert_eq!(yaml(b"---\n"), Err(DecodeError::Empty));
        assert_eq!(
            super::json(b"{\"a\":\"\xff\"}"),
            Err(DecodeError::InvalidUtf8 {
                offset: 6,
                byte: 0xff
            })
        );
        assert_eq!(yaml(b"a: 1\n---\nb: 2\n"), Err(DecodeError::SeveralDocuments));
        for body in ["{", "{\"a\":1} x", "{\"a\":}", "[1,]", "{a:1}", "1e999"] {
            assert!(
                matches!(super::json(body.as_bytes()), Err(DecodeError::Syntax(_))),
                "{body}"
            );
        }
        for body in ["a: [", "a: .inf", "? [1]\n: 2", "a: b: c", "a: !thing x"] {
            assert!(
                matches!(yaml(body.as_bytes()), Err(DecodeError::Syntax(_))),
                "{body}"
            );
        }
    }

    #[test]
    fn depth_is_limited() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(super::json(nested(NESTING_DEPTH_MAX).as_bytes()).is_ok());
        for depth in [NESTING_DEPTH_MAX + 1, 100_000] {
            assert_eq!(super::json(nested(depth).as_bytes()), Err(DecodeError::TooDeep));
        }
        assert_eq!(
            yaml(nested(NESTING_DEPTH_MAX + 1).as_bytes()),
            Err(DecodeError::TooDeep)
        );
        let maps = "{\"a\":".repeat(1000);
        assert_eq!(super::json(maps.as_bytes()), Err(DecodeError::TooDeep));
    }

    #[test]
    fn aliases_cannot_fill_the_memory() {
        let mut bomb = format!("a: &a \"{}\"\n", "x".repeat(1_000_000));
        bomb.push_str("b: [");
        bomb.push_str(&"*a,".repeat(1000));
        bomb.push(']');
        assert_eq!(yaml(bomb.as_bytes()), Err(DecodeError::TooLarge));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
            "\\PC*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::btree_map("\\PC{0,8}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(value in any_value()) {
            let body = serde_json::to_vec(&value).unwrap();
            let decoded = super::json(&body).unwrap();
            prop_assert_eq!(&decoded.value, &value);
            prop_assert!(decoded.duplicate_fields.is_empty());
        }

        #[test]
        fn any_bytes_are_answered(body in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = super::json(&body);
            let _ = yaml(&body);
        }

        #[test]
        fn any_text_is_answered(body in "[\\[\\]{}:,\"a-c0-9&*!\\-\n ]{0,64}") {
            let _ = super::json(body.as_bytes());
            let _ = yaml(body.as_bytes());
        }
    }
}
