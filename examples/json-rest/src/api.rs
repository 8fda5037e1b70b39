//! What the API answers, as a pure function of the request.

use serde::Deserialize;
use serde_json::{Value, json};

/// What `answer` needs to know of a request.
pub struct Request<'a> {
    pub method: &'a str,
    /// Without the query.
    pub path: &'a str,
    pub body: &'a [u8],
}

#[derive(Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
    /// The methods that the path has, when the request's was not one of them (RFC 9110 §15.5.6).
    pub allow: Option<&'static str>,
}

impl Answer {
    pub fn error(status: u16, message: &str) -> Self {
        Self {
            status,
            body: json!({ "error": { "status": status, "message": message } }),
            allow: None,
        }
    }

    fn ok(body: Value) -> Self {
        Self {
            status: 200,
            body,
            allow: None,
        }
    }

    fn method_not_allowed(request: &Request, allow: &'static str) -> Self {
        let message = format!(
            "{} has no method {}; it has {allow}",
            request.path, request.method
        );
        Self {
            allow: Some(allow),
            ..Self::error(405, &message)
        }
    }
}

struct Product {
    id: &'static str,
    name: &'static str,
    price_cents: u64,
}

const PRODUCTS: [Product; 3] = [
    Product {
        id: "tea",
        name: "Green tea, 100 g",
        price_cents: 890,
    },
    Product {
        id: "cup",
        name: "Cup, porcelain",
        price_cents: 1450,
    },
    Product {
        id: "kettle",
        name: "Kettle, 1 l",
        price_cents: 5900,
    },
];

const QUANTITY_MAX: u32 = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Basket {
    items: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    id: String,
    quantity: u32,
}

/// `GET /products`, `GET /products/{id}`, `POST /quotes`.
pub fn answer(request: &Request) -> Answer {
    let path = request.path.strip_suffix('/').unwrap_or(request.path);
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match (segments.as_slice(), request.method) {
        (["products"], "GET") => {
            Answer::ok(json!({ "products": PRODUCTS.iter().map(describe).collect::<Vec<_>>() }))
        }
        (["products", id], "GET") => match product(id) {
            Some(product) => Answer::ok(describe(product)),
            None => Answer::error(404, &format!("there is no product {id:?}")),
        },
        (["quotes"], "POST") => quote(request.body).unwrap_or_else(|message| Answer::error(400, &message)),
        (["products"] | ["products", _], _) => Answer::method_not_allowed(request, "GET"),
        (["quotes"], _) => Answer::method_not_allowed(request, "POST"),
        _ => Answer::error(404, "try GET /products, GET /products/tea or POST /quotes"),
    }
}

fn quote(body: &[u8]) -> Result<Answer, String> {
    let basket: Basket =
        serde_json::from_slice(body).map_err(|error| format!("the body is no basket: {error}"))?;
    if basket.items.is_empty() {
        return Err("items: must not be empty".to_owned());
    }
    let mut total_cents = 0;
    let mut lines = Vec::with_capacity(basket.items.len());
    for (position, Item { id, quantity }) in basket.items.iter().enumerate() {
        let product =
            product(id).ok_or_else(|| format!("items[{position}].id: there is no product {id:?}"))?;
        if !(1..=QUANTITY_MAX).contains(quantity) {
            return Err(format!(
                "items[{position}].quantity: must be from 1 to {QUANTITY_MAX}, got {quantity}"
            ));
        }
        let line_cents = product.price_cents * u64::from(*quantity);
        total_cents += line_cents;
        lines.push(json!({ "id": id, "quantity": quantity, "line_cents": line_cents }));
    }
    Ok(Answer::ok(json!({ "items": lines, "total_cents": total_cents })))
}

fn product(id: &str) -> Option<&'static Product> {
    PRODUCTS.iter().find(|product| product.id == id)
}

fn describe(product: &Product) -> Value {
    json!({ "id": product.id, "name": product.name, "price_cents": product.price_cents })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &str, path: &str, body: &str) -> Answer {
        answer(&Request {
            method,
            path,
            body: body.as_bytes(),
        })
    }

    fn message(answer: &Answer) -> &str {
        answer.body["error"]["message"].as_str().unwrap()
    }

    #[test]
    fn lists_and_finds_products() {
        assert_eq!(
            call("GET", "/products/", "").body["products"]
                .as_array()
                .unwrap()
                .len(),
            PRODUCTS.len()
        );
        assert_eq!(call("GET", "/products/tea", "").body["price_cents"], 890);
    }

    #[test]
    fn adds_a_basket_up() {
        let quote = call(
            "POST",
            "/quotes",
            r#"{"items":[{"id":"tea","quantity":2},{"id":"cup","quantity":1}]}"#,
        );
        assert_eq!((quote.status, &quote.body["total_cents"]), (200, &json!(3230)));
    }

    #[test]
    fn refuses_and_says_why() {
        let cases = [
            ("POST", "/quotes", "", 400, "EOF"),
            ("POST", "/quotes", "{\"items\":", 400, "line 1 column 9"),
            ("POST", "/quotes", "[]", 400, "basket"),
            (
                "POST",
                "/quotes",
                r#"{"items":[]}"#,
                400,
                "items: must not be empty",
            ),
            (
                "POST",
                "/quotes",
                r#"{"items":[{"id":"x","quantity":1}]}"#,
                400,
                "items[0].id",
            ),
            (
                "POST",
                "/quotes",
                r#"{"items":[{"id":"tea","quantity":0}]}"#,
                400,
                "items[0].quantity",
            ),
            (
                "POST",
                "/quotes",
                r#"{"items":[{"id":"tea","quantity":-1}]}"#,
                400,
                "-1",
            ),
            (
                "POST",
                "/quotes",
                r#"{"items":[{"id":"tea","quantity":1,"price_cents":1}]}"#,
                400,
                "price_cents",
            ),
            ("GET", "/products/x", "", 404, "\"x\""),
            ("GET", "/", "", 404, "GET /products"),
            ("DELETE", "/products", "", 405, "DELETE"),
            ("GET", "/quotes", "", 405, "POST"),
        ];
        for (method, path, body, status, part) in cases {
            let answer = call(method, path, body);
            assert_eq!(answer.status, status, "{method} {path} {body}");
            assert!(
                message(&answer).contains(part),
                "{method} {path} {body}: {}",
                message(&answer)
            );
            assert_eq!(answer.allow.is_some(), status == 405);
        }
    }
}
