//! Kubernetes' protobuf bodies, read only.
//!
//! kubectl 1.32 and later send built-in kinds to typed endpoints as protobuf. A body is the magic `k8s\0`, then the
//! message `runtime.Unknown` with the type and the bytes of the object. Fields that are not in the tables are skipped;
//! what comes out is the JSON form of the object.

mod tables;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};
use tables::{Field, Form};

/// Largest body that is read, in bytes.
pub const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// The first bytes of every body.
const MAGIC: &[u8] = b"k8s\0";

/// Why a body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// It does not start with `k8s\0`.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoMagic,
    /// It is longer than [`BODY_BYTES_MAX`].
    #[error("the body is longer than {BODY_BYTES_MAX} bytes")]
    TooLarge,
    /// It ends in the middle of a field, or holds what cannot be read.
    #[error("the protobuf body is malformed: {0}")]
    Malformed(&'static str),
    /// A text is not UTF-8.
    #[error("the protobuf body is malformed: the field {0:?} is not valid UTF-8")]
    InvalidUtf8(&'static str),
    /// The object is compressed or otherwise encoded.
    #[error("the content encoding {0:?} is not supported")]
    Encoding(String),
    /// No table for this kind.
    #[error("{kind:?} of {api_version:?} cannot be sent as protobuf; send JSON")]
    UnknownKind {
        /// The version in the envelope.
        api_version: String,
        /// The kind in the envelope.
        kind: String,
    },
}

/// The object in a body, as JSON with `apiVersion` and `kind`.
pub fn decode(body: &[u8]) -> Result<Value, ProtobufError> {
    if body.len() > BODY_BYTES_MAX {
        return Err(ProtobufError::TooLarge);
    }
    let envelope = body.strip_prefix(MAGIC).ok_or(ProtobufError::NoMagic)?;
    let mut api_version = "";
    let mut kind = "";
    let mut object: &[u8] = &[];
    let mut fields = Fields(envelope);
    while let Some((number, wire)) = fields.next_field()? {
        match (number, wire) {
            (1, Wire::Bytes(type_meta)) => {
                let mut fields = Fields(type_meta);
                while let Some((number, wire)) = fields.next_field()? {
                    match (number, wire) {
                        (1, Wire::Bytes(bytes)) => api_version = text("apiVersion", bytes)?,
                        (2, Wire::Bytes(bytes)) => kind = text("kind", bytes)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(raw)) => object = raw,
            (3, Wire::Bytes(encoding)) if !encoding.is_empty() => {
                return Err(ProtobufError::Encoding(
                    String::from_utf8_lossy(encoding).into_owned(),
                ));
            }
            _ => {}
        }
    }
    let table = tables::of(api_version, kind).ok_or_else(|| ProtobufError::UnknownKind {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
    })?;
    let mut map = Map::new();
    map.insert("apiVersion".to_owned(), api_version.into());
    map.insert("kind".to_owned(), kind.into());
    map.extend(message(table, object)?);
    Ok(Value::Object(map))
}

/// The value of one field on the wire.
#[derive(Clone, Copy)]
enum Wire<'b> {
    Number(u64),
    Bytes(&'b [u8]),
    /// Fixed 32 or 64 bits, which no field of ours has.
    Fixed,
}

/// The fields of a message that are still to be read.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn next_field(&mut self) -> Result<Option<(u64, Wire<'b>)>, ProtobufError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            1 => self.take(8).map(|_| Wire::Fixed)?,
            2 => {
                let length = self.varint()?;
                Wire::Bytes(self.take(usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            5 => self.take(4).map(|_| Wire::Fixed)?,
            _ => return Err(ProtobufError::Malformed("unknown wire type")),
        };
        match tag >> 3 {
            0 => Err(ProtobufError::Malformed("field number 0")),
            number => Ok(Some((number, wire))),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8], ProtobufError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(ProtobufError::Malformed("it ends within a field"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let (byte, rest) = self
                .0
                .split_first()
                .ok_or(ProtobufError::Malformed("it ends within a number"))?;
            self.0 = rest;
            if shift == 63 && *byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ProtobufError::Malformed("a number has more than 64 bits"))
    }
}

fn text<'b>(name: &'static str, bytes: &'b [u8]) -> Result<&'b str, ProtobufError> {
    std::str::from_utf8(bytes).map_err(|_| ProtobufError::InvalidUtf8(name))
}

/// Reads a message by its table. Depth is bounded by the tables, which do not refer to themselves.
fn message(table: &'static [Field], bytes: &[u8]) -> Result<Map<String, Value>, ProtobufError> {
    let mut map = Map::new();
    let mut fields = Fields(bytes);
    while let Some((number, wire)) = fields.next_field()? {
        if let Some(field) = table.iter().find(|field| field.number == number) {
            put(&mut map, field, wire)?;
        }
    }
    Ok(map)
}

/// Adds one field to a map. Go writes empty texts, zeros and empty times of fields that are not pointers; as in Go's
/// JSON those are left out.
fn put(map: &mut Map<String, Value>, field: &'static Field, wire: Wire<'_>) -> Result<(), ProtobufError> {
    let name = field.name;
    let value = match (&field.form, wire) {
        (Form::Text, Wire::Bytes([])) => return Ok(()),
        (Form::Text, Wire::Bytes(bytes)) => text(name, bytes)?.into(),
        (Form::Int, Wire::Number(0)) => return Ok(()),
        // Signed numbers are sent as the two's complement in 64 bits.
        (Form::Int | Form::OptionalInt, Wire::Number(number)) => number.cast_signed().into(),
        (Form::OptionalBool, Wire::Number(number)) => (number != 0).into(),
        (Form::Time, Wire::Bytes(bytes)) => match time(bytes)? {
            Some(time) => time.into(),
            None => return Ok(()),
        },
        (Form::RawJson, Wire::Bytes(bytes)) => raw_json(bytes)?,
        (Form::Message(table), Wire::Bytes(bytes)) => {
            let mut merged = match map.get_mut(name).map(Value::take) {
                Some(Value::Object(merged)) => merged,
                _ => Map::new(),
            };
            merged.extend(message(table, bytes)?);
            Value::Object(merged)
        }
        (Form::Texts, Wire::Bytes(bytes)) => return push(map, name, text(name, bytes)?.into()),
        (Form::Messages(table), Wire::Bytes(bytes)) => {
            let item = Value::Object(message(table, bytes)?);
            return push(map, name, item);
        }
        (Form::TextMap | Form::BytesMap, Wire::Bytes(bytes)) => {
            let (key, value) = entry(name, bytes, matches!(field.form, Form::BytesMap))?;
            let entries = map
                .entry(name.to_owned())
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(entries) = entries {
                entries.insert(key, value);
            }
            return Ok(());
        }
        _ => return Err(ProtobufError::Malformed("a field has another type than expected")),
    };
    map.insert(name.to_owned(), value);
    Ok(())
}

fn push(map: &mut Map<String, Value>, name: &'static str, item: Value) -> Result<(), ProtobufError> {
    if let Value::Array(items) = map
        .entry(name.to_owned())
        .or_insert_with(|| Value::Array(Vec::new()))
    {
        items.push(item);
    }
    Ok(())
}

/// Key and value of one entry of a map.
fn entry(name: &'static str, bytes: &[u8], binary: bool) -> Result<(String, Value), ProtobufError> {
    let mut key = String::new();
    let mut value: &[u8] = &[];
    let mut fields = Fields(bytes);
    while let Some((number, wire)) = fields.next_field()? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => key = text(name, bytes)?.to_owned(),
            (2, Wire::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    let value = if binary {
        BASE64.encode(value).into()
    } else {
        text(name, value)?.into()
    };
    Ok((key, value))
}

/// A `Time` or `MicroTime`: seconds and nanoseconds. The empty message is the zero time, which means none.
fn time(bytes: &[u8]) -> Result<Option<String>, ProtobufError> {
    let (mut seconds, mut nanoseconds) = (0_i64, 0_i64);
    let mut fields = Fields(bytes);
    let mut found = false;
    while let Some((number, wire)) = fields.next_field()? {
        found = true;
        match (number, wire) {
            (1, Wire::Number(number)) => seconds = number.cast_signed(),
            (2, Wire::Number(number)) => nanoseconds = number.cast_signed(),
            _ => {}
        }
    }
    if !found {
        return Ok(None);
    }
    let nanoseconds =
        i32::try_from(nanoseconds).map_err(|_| ProtobufError::Malformed("a time is out of range"))?;
    let time = jiff::Timestamp::new(seconds, nanoseconds)
        .map_err(|_| ProtobufError::Malformed("a time is out of range"))?;
    let form = if nanoseconds == 0 {
        "%Y-%m-%dT%H:%M:%SZ"
    } else {
        "%Y-%m-%dT%H:%M:%S.%6fZ"
    };
    Ok(Some(time.strftime(form).to_string()))
}

/// `FieldsV1`: a message with JSON in field 1.
fn raw_json(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let mut json: &[u8] = b"{}";
    let mut fields = Fields(bytes);
    while let Some((number, wire)) = fields.next_field()? {
        if let (1, Wire::Bytes(bytes)) = (number, wire) {
            json = bytes;
        }
    }
    serde_json::from_slice(json).map_err(|_| ProtobufError::Malformed("fieldsV1 is not JSON"))
}

#[cfg(test)]
mod tests;
