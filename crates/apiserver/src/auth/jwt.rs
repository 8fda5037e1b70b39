//! Signed tokens (RFC 7515 and 7519): taking them apart, checking signatures, and signing with the server's own key.
//!
//! The algorithm is the key's, never the token's word alone: `none` and HMAC do not exist here.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED, EcdsaKeyPair, KeyPair,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Longest token that is looked at, in bytes.
pub(crate) const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// A token taken apart; nothing in it is to be believed before [`Token::verify`].
#[derive(Debug)]
pub(crate) struct Token<'t> {
    /// `alg`.
    pub algorithm: String,
    /// `kid`; empty where there is none.
    pub key_id: String,
    /// The payload.
    pub claims: Value,
    signed: &'t str,
    signature: Vec<u8>,
}

impl<'t> Token<'t> {
    /// Takes a token apart; `None` for what is no token.
    pub(crate) fn parse(text: &'t str) -> Option<Self> {
        if text.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let json = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        let header = json(header)?;
        // What a header calls critical must be understood (RFC 7515 §4.1.11); nothing is.
        if header.get("crit").is_some() {
            return None;
        }
        let text = |key: &str| {
            header
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        Some(Self {
            algorithm: text("alg"),
            key_id: text("kid"),
            claims: json(payload).filter(Value::is_object)?,
            signed,
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    /// Whether the signature is this key's.
    pub(crate) fn verify(&self, key: &PublicKey) -> bool {
        let message = self.signed.as_bytes();
        match (key, self.algorithm.as_str()) {
            (PublicKey::P256(point), "ES256") => {
                verify(&ECDSA_P256_SHA256_FIXED, point, message, &self.signature)
            }
            (PublicKey::P384(point), "ES384") => {
                verify(&ECDSA_P384_SHA384_FIXED, point, message, &self.signature)
            }
            (PublicKey::Rsa { n, e }, algorithm) => rsa_parameters(algorithm).is_some_and(|parameters| {
                RsaPublicKeyComponents { n, e }
                    .verify(parameters, message, &self.signature)
                    .is_ok()
            }),
            _ => false,
        }
    }

    /// A text among the claims; empty where there is none.
    pub(crate) fn text(&self, pointer: &str) -> &str {
        crate::object::text(&self.claims, pointer)
    }

    /// A time among the claims, in seconds since 1970.
    pub(crate) fn seconds(&self, claim: &str) -> Option<i64> {
        let value = self.claims.get(claim)?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "times with fractions are allowed (RFC 7519 §2)"
        )]
        value
            .as_i64()
            .or_else(|| value.as_f64().map(|seconds| seconds as i64))
    }

    /// `aud`: one text or a list.
    pub(crate) fn audiences(&self) -> Vec<&str> {
        match self.claims.get("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }
}

fn verify(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    UnparsedPublicKey::new(algorithm, key)
        .verify(message, signature)
        .is_ok()
}

fn rsa_parameters(algorithm: &str) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        "RS256" => &RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &RSA_PSS_2048_8192_SHA256,
        "PS384" => &RSA_PSS_2048_8192_SHA384,
        "PS512" => &RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

/// A key that signatures are checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PublicKey {
    /// A point of P-256, uncompressed.
    P256(Vec<u8>),
    /// A point of P-384, uncompressed.
    P384(Vec<u8>),
    /// An RSA key.
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

impl PublicKey {
    /// Reads a JSON Web Key (RFC 7517, 7518 §6); `None` for other kinds and for keys that are not for signatures.
    pub(crate) fn from_jwk(jwk: &Value) -> Option<Self> {
        let text = |key: &str| jwk.get(key).and_then(Value::as_str);
        if text("use").is_some_and(|wanted| wanted != "sig") {
            return None;
        }
        let bytes = |key: &str| URL_SAFE_NO_PAD.decode(text(key)?).ok();
        let point = |length: usize| {
            let (x, y) = (bytes("x")?, bytes("y")?);
            (x.len() == length && y.len() == length).then(|| [&[4], x.as_slice(), y.as_slice()].concat())
        };
        match (text("kty")?, text("crv")) {
            ("EC", Some("P-256")) => Some(Self::P256(point(32)?)),
            ("EC", Some("P-384")) => Some(Self::P384(point(48)?)),
            ("RSA", _) => Some(Self::Rsa {
                n: bytes("n")?,
                e: bytes("e")?,
            }),
            _ => None,
        }
    }
}

/// The server's key for tokens of ServiceAccounts: ECDSA on P-256.
pub(crate) struct SigningKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    id: String,
}

impl SigningKey {
    /// Reads a PKCS#8 key.
    ///
    /// # Errors
    /// When it is no such key.
    pub(crate) fn read(pkcs8: &[u8]) -> Result<Self, String> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random)
            .map_err(|error| format!("it is not a P-256 key in PKCS#8: {error}"))?;
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(pair.public_key().as_ref()));
        Ok(Self { pair, random, id })
    }

    /// A new key, for a server that keeps none.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(crate) fn generate() -> Result<Self, String> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|error| error.to_string())?;
        Self::read(pkcs8.as_ref())
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        PublicKey::P256(self.pair.public_key().as_ref().to_vec())
    }

    /// A token with these claims.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(crate) fn sign(&self, claims: &Value) -> Result<String, String> {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": "ES256", "kid": self.id});
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let signature = self
            .pair
            .sign(&self.random, signed.as_bytes())
            .map_err(|error| error.to_string())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_signed_is_verified_by_its_own_key_only() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let text = key
            .sign(&json!({"sub": "x", "exp": 12.5, "aud": ["a", "b"]}))
            .unwrap();
        let token = Token::parse(&text).unwrap();
        assert!(token.verify(&key.public_key()));
        assert!(!token.verify(&other.public_key()));
        assert_eq!((token.text("/sub"), token.seconds("exp")), ("x", Some(12)));
        assert_eq!(token.audiences(), ["a", "b"]);
    }

    #[test]
    fn nobody_chooses_how_their_token_is_checked() {
        let key = SigningKey::generate().unwrap();
        let good = key.sign(&json!({"sub": "x"})).unwrap();
        let (_, rest) = good.split_once('.').unwrap();
        let (payload, signature) = rest.split_once('.').unwrap();
        for header in [
            json!({"alg": "none"}),
            json!({"alg": "None"}),
            json!({"alg": "HS256"}),
            json!({"alg": "RS256"}),
            json!({}),
        ] {
            let header = URL_SAFE_NO_PAD.encode(header.to_string());
            for signature in ["", signature] {
                let text = format!("{header}.{payload}.{signature}");
                assert!(!Token::parse(&text).unwrap().verify(&key.public_key()), "{text}");
            }
        }
        let critical = URL_SAFE_NO_PAD.encode(json!({"alg": "ES256", "crit": ["b64"]}).to_string());
        assert!(Token::parse(&format!("{critical}.{payload}.{signature}")).is_none());
    }

    /// The example of RFC 7515, appendix A.3.
    #[test]
    fn the_example_of_the_rfc_is_verified() {
        let jwk = json!({
            "kty": "EC", "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        });
        let text = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        let token = Token::parse(text).unwrap();
        assert!(token.verify(&PublicKey::from_jwk(&jwk).unwrap()));
        assert_eq!(token.seconds("exp"), Some(1_300_819_380));
    }

    #[test]
    fn other_keys_are_left_alone() {
        for jwk in [
            json!({"kty": "oct", "k": "AAAA"}),
            json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
            json!({"kty": "RSA", "n": "AA", "e": "AQAB", "use": "enc"}),
            json!({}),
        ] {
            assert_eq!(PublicKey::from_jwk(&jwk), None, "{jwk}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-zA-Z0-9_.=-]{0,64}") {
            if let Some(token) = Token::parse(&text) {
                let _ = (token.seconds("exp"), token.audiences());
            }
        }
    }
}
