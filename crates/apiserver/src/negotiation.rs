//! Which form a reply takes (`Accept`) and in which form a body came (`Content-Type`).

use crate::status::ApiError;
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

/// The content type of Kubernetes' protobuf.
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// How the object of a reply is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Yaml,
}

/// What the reply shows of the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The object or list itself.
    Whole,
    /// A `Table` of this version of meta.k8s.io.
    Table(&'static str),
    /// `PartialObjectMetadata`, or its list.
    Metadata(&'static str),
}

/// The form of one reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    pub encoding: Encoding,
    pub shape: Shape,
}

impl Format {
    pub(crate) const JSON: Self = Self {
        encoding: Encoding::Json,
        shape: Shape::Whole,
    };
}

/// Which discovery document is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiscoveryForm {
    /// `APIGroupDiscoveryList` of this version of apidiscovery.k8s.io.
    Aggregated(&'static str),
    /// `APIVersions` and `APIGroupList`.
    Legacy,
}

/// The form of a request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyForm {
    Json,
    Yaml,
    Protobuf,
}

/// The form of a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchForm {
    Json,
    Merge,
    Strategic,
    Apply,
}

/// One clause of an `Accept` header.
struct Clause<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl Clause<'_> {
    fn get(&self, key: &str) -> &str {
        self.parameters
            .iter()
            .find(|(name, _)| *name == key)
            .map_or("", |(_, value)| value)
    }
}

/// The clauses in order of preference: by `q`, then as written.
fn clauses(headers: &HeaderMap) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|clause| {
            let mut parts = clause.split(';').map(str::trim);
            let media = parts.next().filter(|media| !media.is_empty())?;
            let parameters = parts
                .filter_map(|part| part.split_once('='))
                .map(|(k, v)| (k.trim(), v.trim()));
            Some(Clause {
                media,
                parameters: parameters.collect(),
            })
        })
        .collect();
    let quality = |clause: &Clause<'_>| clause.get("q").parse().unwrap_or(1.0_f32);
    clauses.retain(|clause| quality(clause) > 0.0);
    clauses.sort_by(|a, b| quality(b).total_cmp(&quality(a)));
    clauses
}

fn meta_version(clause: &Clause<'_>) -> Option<&'static str> {
    match (clause.get("g"), clause.get("v")) {
        ("meta.k8s.io", "v1") => Some("v1"),
        ("meta.k8s.io", "v1beta1") => Some("v1beta1"),
        _ => None,
    }
}

/// The best form for this request; the first clause that we can write wins.
pub(crate) fn format(headers: &HeaderMap) -> Result<Format, ApiError> {
    let clauses = clauses(headers);
    let asked = headers
        .get_all(ACCEPT)
        .iter()
        .any(|value| !value.as_bytes().trim_ascii().is_empty());
    if !asked {
        return Ok(Format::JSON);
    }
    let accept = |clause: &Clause<'_>| {
        let encoding = match clause.media {
            "application/json" | "application/*" | "*/*" => Encoding::Json,
            "application/yaml" => Encoding::Yaml,
            _ => return None,
        };
        let shape = match clause.get("as") {
            "" => Shape::Whole,
            "Table" => Shape::Table(meta_version(clause)?),
            "PartialObjectMetadata" | "PartialObjectMetadataList" => Shape::Metadata(meta_version(clause)?),
            _ => return None,
        };
        Some(Format { encoding, shape })
    };
    clauses
        .iter()
        .find_map(accept)
        .ok_or_else(ApiError::not_acceptable)
}

/// The discovery document for this request.
pub(crate) fn discovery(headers: &HeaderMap) -> DiscoveryForm {
    clauses(headers)
        .iter()
        .find_map(|clause| {
            let aggregated =
                clause.get("as") == "APIGroupDiscoveryList" && clause.get("g") == "apidiscovery.k8s.io";
            match (clause.media, clause.get("v")) {
                ("application/json", "v2") if aggregated => Some(DiscoveryForm::Aggregated("v2")),
                ("application/json", "v2beta1") if aggregated => Some(DiscoveryForm::Aggregated("v2beta1")),
                ("application/json" | "application/*" | "*/*", _) if clause.get("as").is_empty() => {
                    Some(DiscoveryForm::Legacy)
                }
                _ => None,
            }
        })
        .unwrap_or(DiscoveryForm::Legacy)
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// Whether a body came as protobuf, which custom resources have no form of.
pub(crate) fn is_protobuf(headers: &HeaderMap) -> bool {
    content_type(headers) == PROTOBUF
}

/// The error for an object of a custom resource in protobuf.
pub(crate) fn no_protobuf() -> ApiError {
    ApiError::unsupported_media_type("application/json, application/yaml")
}

/// The form of a body. A missing `Content-Type` means JSON (kubectl's `scale` sends none).
pub(crate) fn body_form(headers: &HeaderMap) -> Result<BodyForm, ApiError> {
    match content_type(headers).as_str() {
        "" | "application/json" => Ok(BodyForm::Json),
        "application/yaml" => Ok(BodyForm::Yaml),
        PROTOBUF => Ok(BodyForm::Protobuf),
        _ => Err(ApiError::unsupported_media_type(
            "application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

/// The form of a patch. Custom resources have no strategic merge patch, exactly as in Kubernetes.
pub(crate) fn patch_form(headers: &HeaderMap, strategic: bool) -> Result<PatchForm, ApiError> {
    match content_type(headers).as_str() {
        "application/json-patch+json" => Ok(PatchForm::Json),
        "application/merge-patch+json" => Ok(PatchForm::Merge),
        "application/apply-patch+yaml" => Ok(PatchForm::Apply),
        "application/strategic-merge-patch+json" if strategic => Ok(PatchForm::Strategic),
        _ if strategic => Err(ApiError::unsupported_media_type(
            "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml",
        )),
        _ => Err(ApiError::unsupported_media_type(
            "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: http::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn the_first_form_we_can_write_wins() {
        let table = Format {
            encoding: Encoding::Json,
            shape: Shape::Table("v1"),
        };
        let metadata = Format {
            encoding: Encoding::Json,
            shape: Shape::Metadata("v1"),
        };
        let yaml = Format {
            encoding: Encoding::Yaml,
            shape: Shape::Whole,
        };
        for (accept, wanted) in [
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                table,
            ),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Format::JSON,
            ),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                metadata,
            ),
            ("application/json;q=0.1, application/yaml", yaml),
            ("*/*", Format::JSON),
            ("", Format::JSON),
        ] {
            assert_eq!(format(&headers(ACCEPT, accept)).unwrap(), wanted, "{accept}");
        }
        assert_eq!(format(&headers(ACCEPT, "text/html")).unwrap_err().code, 406);
        assert_eq!(
            format(&headers(ACCEPT, "application/json;as=Tree;v=v1;g=meta.k8s.io"))
                .unwrap_err()
                .code,
            406
        );
    }

    #[test]
    fn discovery_prefers_the_aggregated_form() {
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        assert_eq!(
            discovery(&headers(ACCEPT, accept)),
            DiscoveryForm::Aggregated("v2")
        );
        assert_eq!(
            discovery(&headers(ACCEPT, "application/json")),
            DiscoveryForm::Legacy
        );
    }

    #[test]
    fn bodies_and_patches() {
        assert_eq!(body_form(&HeaderMap::new()), Ok(BodyForm::Json));
        assert_eq!(
            body_form(&headers(CONTENT_TYPE, "application/json; charset=utf-8")),
            Ok(BodyForm::Json)
        );
        assert_eq!(
            body_form(&headers(CONTENT_TYPE, "text/plain")).unwrap_err().code,
            415
        );
        let strategic = headers(CONTENT_TYPE, "application/strategic-merge-patch+json");
        assert_eq!(patch_form(&strategic, true), Ok(PatchForm::Strategic));
        assert_eq!(patch_form(&strategic, false).unwrap_err().code, 415);
    }
}
