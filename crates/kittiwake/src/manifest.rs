//! Manifests: what `apply -f` reads. Files, folders, kustomization folders and standard input become a list of objects.

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::Value;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Largest manifest file: more than the API's limit for one object, as a file may hold many.
const FILE_BYTES_MAX: u64 = 32 << 20;
/// Most objects in one `apply`.
const OBJECTS_MAX: usize = 10_000;
/// Deepest nesting of folders.
const FOLDER_DEPTH_MAX: usize = 32;

/// One object of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The object: a mapping with apiVersion, kind and metadata.
    pub object: Value,
    /// Where it was read, for messages: `service.yaml`, `service.yaml (document 2)`.
    pub origin: String,
}

impl Manifest {
    /// `apiVersion` of the object.
    #[must_use]
    pub fn api_version(&self) -> &str {
        self.object
            .get("apiVersion")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// `kind` of the object.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.object
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// `metadata.name` of the object.
    #[must_use]
    pub fn name(&self) -> &str {
        self.object
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// `metadata.namespace` of the object, if it says one.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.object.pointer("/metadata/namespace").and_then(Value::as_str)
    }
}

/// The part of a kustomization that Kittiwake follows; anything else in it is refused rather than ignored.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kustomization {
    #[serde(rename = "apiVersion")]
    _api_version: Option<String>,
    #[serde(rename = "kind")]
    _kind: Option<String>,
    resources: Vec<PathBuf>,
}

/// Reads all objects below `paths`, in order: files as given, folders sorted by name, or as their
/// `kustomization.yaml` lists them.
///
/// # Errors
/// Names the file, and the line where the text is malformed.
pub fn read_all(paths: &[PathBuf]) -> anyhow::Result<Vec<Manifest>> {
    let mut manifests = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            let mut text = String::new();
            std::io::stdin()
                .lock()
                .take(FILE_BYTES_MAX)
                .read_to_string(&mut text)
                .context("cannot read standard input")?;
            manifests.extend(parse(&text, "standard input")?);
        } else {
            read_path(path, 0, &mut manifests)?;
        }
    }
    if manifests.is_empty() {
        let names: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        bail!(
            "no objects in {}; expected YAML or JSON files (.yaml, .yml, .json) with apiVersion and kind",
            names.join(", ")
        );
    }
    if manifests.len() > OBJECTS_MAX {
        bail!(
            "{} objects at once are more than the {OBJECTS_MAX} that one call takes; apply them in parts",
            manifests.len()
        );
    }
    Ok(manifests)
}

fn read_path(path: &Path, depth: usize, manifests: &mut Vec<Manifest>) -> anyhow::Result<()> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if metadata.is_dir() {
        if depth == FOLDER_DEPTH_MAX {
            bail!(
                "{}: folders are nested deeper than {FOLDER_DEPTH_MAX}",
                path.display()
            );
        }
        for child in children(path)? {
            read_path(&child, depth + 1, manifests)?;
        }
        return Ok(());
    }
    if metadata.len() > FILE_BYTES_MAX {
        bail!(
            "{} is larger than {} MiB, too large for a manifest",
            path.display(),
            FILE_BYTES_MAX >> 20
        );
    }
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    manifests.extend(parse(&text, &path.display().to_string())?);
    Ok(())
}

/// What to read in a folder: what its kustomization lists, else its manifests and folders sorted by name.
fn children(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    for name in ["kustomization.yaml", "kustomization.yml", "Kustomization"] {
        let file = folder.join(name);
        if file.is_file() {
            let text =
                fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let kustomization: Kustomization = serde_yaml_ng::from_str(&text).with_context(|| {
                format!(
                    "{}: only `resources` is understood; use kubectl apply -k for more",
                    file.display()
                )
            })?;
            return Ok(kustomization
                .resources
                .iter()
                .map(|resource| folder.join(resource))
                .collect());
        }
    }
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut children = Vec::new();
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot read {}", folder.display()))?
            .path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let manifest = path
            .extension()
            .is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
        if !hidden && (path.is_dir() || manifest) {
            children.push(path);
        }
    }
    children.sort();
    Ok(children)
}

/// The objects in one text of YAML documents (JSON is YAML). Empty documents are skipped, a `List` is opened.
///
/// # Errors
/// Malformed text (with its line) and documents that are no Kubernetes objects.
pub fn parse(text: &str, origin: &str) -> anyhow::Result<Vec<Manifest>> {
    let mut manifests = Vec::new();
    for (index, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
        let place = if index == 0 {
            origin.to_owned()
        } else {
            format!("{origin} (document {})", index + 1)
        };
        let value = Value::deserialize(document).with_context(|| format!("{place} is not valid YAML"))?;
        if value.is_null() {
            continue;
        }
        push(value, &place, &mut manifests)?;
    }
    Ok(manifests)
}

fn push(value: Value, origin: &str, manifests: &mut Vec<Manifest>) -> anyhow::Result<()> {
    let manifest = Manifest {
        object: value,
        origin: origin.to_owned(),
    };
    if manifest.kind() == "List" && manifest.object.get("items").is_some_and(Value::is_array) {
        if let Some(Value::Array(items)) = manifest.object.get("items").cloned() {
            for item in items {
                push(item, origin, manifests)?;
            }
        }
        return Ok(());
    }
    for (field, text) in [
        ("apiVersion", manifest.api_version()),
        ("kind", manifest.kind()),
        ("metadata.name", manifest.name()),
    ] {
        let generated =
            field == "metadata.name" && manifest.object.pointer("/metadata/generateName").is_some();
        if text.is_empty() && !generated {
            bail!("{origin}: {field} is missing; a manifest needs apiVersion, kind and metadata.name");
        }
    }
    manifests.push(manifest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, text: &str) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn object(name: &str) -> String {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n")
    }

    fn names(paths: &[PathBuf]) -> Vec<String> {
        read_all(paths)
            .unwrap()
            .iter()
            .map(|m| m.name().to_owned())
            .collect()
    }

    #[test]
    fn folders_are_read_in_order_and_other_files_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        write(
            folder.path(),
            "b.yaml",
            &format!("{}---\n---\n{}", object("b1"), object("b2")),
        );
        write(folder.path(), "a/service.yml", &object("a"));
        write(
            folder.path(),
            "c.json",
            r#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Secret","metadata":{"name":"c"}}]}"#,
        );
        write(folder.path(), "README.md", "not a manifest");
        write(folder.path(), ".hidden/x.yaml", ":");
        assert_eq!(names(&[folder.path().to_owned()]), ["a", "b1", "b2", "c"]);
    }

    #[test]
    fn a_kustomization_chooses() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "kustomization.yaml", "resources: [z.yaml, sub]\n");
        write(folder.path(), "z.yaml", &object("z"));
        write(folder.path(), "ignored.yaml", &object("ignored"));
        write(folder.path(), "sub/s.yaml", &object("s"));
        assert_eq!(names(&[folder.path().to_owned()]), ["z", "s"]);
    }

    #[test]
    fn mistakes_name_the_place() {
        for (text, part) in [
            ("a: [1", "x.yaml is not valid YAML"),
            ("kind: Service", "apiVersion is missing"),
            ("apiVersion: v1\nkind: Service", "metadata.name is missing"),
            ("just text", "apiVersion is missing"),
            (
                "apiVersion: v1\nkind: A\nmetadata: {name: a}\n---\nb: [",
                "x.yaml (document 2)",
            ),
        ] {
            let message = format!("{:#}", parse(text, "x.yaml").unwrap_err());
            assert!(message.contains(part), "{message}");
        }
        assert!(format!("{:#}", read_all(&["/no/such/file".into()]).unwrap_err()).contains("/no/such/file"));
    }

    #[test]
    fn a_kustomization_with_more_than_resources_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        write(
            folder.path(),
            "kustomization.yaml",
            "resources: []\nnamePrefix: x-\n",
        );
        let message = format!("{:#}", read_all(&[folder.path().to_owned()]).unwrap_err());
        assert!(
            message.contains("kubectl apply -k") && message.contains("namePrefix"),
            "{message}"
        );
    }
}
