//! An object in memory: as JSON text, about a tenth of what its tree takes. Ten thousand functions are some eighty
//! thousand objects, most of which nobody looks at for days.

use serde_json::Value;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A JSON object that is kept as text. Cheap to clone.
#[derive(Clone)]
pub struct Document(Arc<Inner>);

struct Inner {
    json: Box<str>,
    /// The tree, while somebody holds it: all who look at the same time share one.
    tree: Mutex<Weak<Value>>,
}

impl Document {
    /// The text of a tree, which is shared as long as it is held elsewhere.
    #[must_use]
    pub fn new(tree: &Arc<Value>) -> Self {
        Self(Arc::new(Inner {
            json: tree.to_string().into(),
            tree: Mutex::new(Arc::downgrade(tree)),
        }))
    }

    /// A text that was written by [`Document::json`].
    ///
    /// # Errors
    /// When it is no JSON.
    pub fn from_json(json: &[u8]) -> serde_json::Result<Self> {
        // Read once now, so that damage is found at the start and not at some later look.
        serde_json::from_slice::<serde::de::IgnoredAny>(json)?;
        let json = str::from_utf8(json).map_err(serde::de::Error::custom)?;
        Ok(Self(Arc::new(Inner {
            json: json.into(),
            tree: Mutex::default(),
        })))
    }

    /// The text. Whether it contains something can be seen much faster than in the tree.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.0.json
    }

    /// The tree.
    #[must_use]
    pub fn tree(&self) -> Arc<Value> {
        let mut shared = self.0.tree.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tree) = shared.upgrade() {
            return tree;
        }
        let tree = Arc::new(serde_json::from_str(&self.0.json).unwrap_or_else(|error| {
            tracing::error!(%error, "an object in memory cannot be read");
            Value::Null
        }));
        *shared = Arc::downgrade(&tree);
        tree
    }
}

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.json() == other.json() || self.tree() == other.tree()
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.json())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn text_and_tree_say_the_same() {
        let tree = Arc::new(json!({"b": 1, "a": [null, "é", 1.5, {"c": {}}]}));
        let document = Document::new(&tree);
        assert_eq!(document.json(), r#"{"b":1,"a":[null,"é",1.5,{"c":{}}]}"#);
        assert!(Arc::ptr_eq(&tree, &document.tree()), "shared while it is held");
        drop(tree);
        let (one, other) = (document.tree(), document.tree());
        assert!(Arc::ptr_eq(&one, &other));
        assert_eq!(*one, json!({"b": 1, "a": [null, "é", 1.5, {"c": {}}]}));
        assert_eq!(Document::from_json(document.json().as_bytes()).unwrap(), document);
    }

    #[test]
    fn damage_is_found_at_once() {
        assert!(Document::from_json(b"{\"a\":").is_err());
        assert!(Document::from_json(b"").is_err());
        assert!(Document::from_json(b"\"\xff\"").is_err());
    }
}
