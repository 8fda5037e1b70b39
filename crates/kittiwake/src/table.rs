//! Tables on the terminal, as kubectl prints them: upper-case headers, columns three blanks apart.

use serde_json::Value;

/// A table of text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Column headers.
    pub headers: Vec<String>,
    /// Rows, each as long as `headers`.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Reads a `meta.k8s.io/v1` Table; columns with a priority above 0 only when `wide`.
    /// With `namespaces`, a first column NAMESPACE is taken from the rows' metadata.
    #[must_use]
    pub fn from_server(table: &Value, wide: bool, namespaces: bool) -> Self {
        let array = |value: &Value, field: &str| {
            value
                .get(field)
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default()
        };
        let columns = array(table, "columnDefinitions");
        let shown: Vec<usize> = columns
            .iter()
            .enumerate()
            .filter(|(_, column)| wide || column.get("priority").and_then(Value::as_i64).unwrap_or(0) == 0)
            .map(|(index, _)| index)
            .collect();
        let name = |column: &Value| {
            column
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_uppercase()
        };
        let mut headers: Vec<String> = shown
            .iter()
            .filter_map(|index| columns.get(*index))
            .map(name)
            .collect();
        if namespaces {
            headers.insert(0, "NAMESPACE".to_owned());
        }
        let mut rows = Vec::new();
        for row in array(table, "rows") {
            let cells = array(&row, "cells");
            let mut texts: Vec<String> = shown
                .iter()
                .map(|index| cells.get(*index).map(cell).unwrap_or_default())
                .collect();
            if namespaces {
                let namespace = row
                    .pointer("/object/metadata/namespace")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                texts.insert(0, namespace.to_owned());
            }
            rows.push(texts);
        }
        Self { headers, rows }
    }

    /// The table as text, one line a row, without trailing blanks.
    #[must_use]
    pub fn render(&self, with_headers: bool) -> String {
        self.render_aligned(with_headers, &mut Vec::new())
    }

    /// The table as text below one that was printed before: `widths` are the widths of its columns, and grow with
    /// what comes. The rows of a watch stay in their columns so.
    pub fn render_aligned(&self, with_headers: bool, widths: &mut Vec<usize>) -> String {
        widths.resize(widths.len().max(self.headers.len()), 0);
        for line in std::iter::once(&self.headers).chain(&self.rows) {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for line in self.lines(with_headers) {
            let cells: Vec<String> = line
                .iter()
                .zip(&*widths)
                .map(|(cell, width)| format!("{cell:<width$}", width = *width))
                .collect();
            text.push_str(cells.join("   ").trim_end());
            text.push('\n');
        }
        text
    }

    fn lines(&self, with_headers: bool) -> impl Iterator<Item = &Vec<String>> {
        with_headers
            .then_some(&self.headers)
            .into_iter()
            .chain(&self.rows)
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_that_come_later_stay_in_their_columns() {
        let table = |cell: &str| Table {
            headers: vec!["NAME".to_owned(), "READY".to_owned()],
            rows: vec![vec![cell.to_owned(), "True".to_owned()]],
        };
        let mut widths = Vec::new();
        assert_eq!(
            table("a-long-name").render_aligned(true, &mut widths),
            "NAME          READY\na-long-name   True\n"
        );
        assert_eq!(
            table("b").render_aligned(false, &mut widths),
            "b             True\n"
        );
    }

    #[test]
    fn a_server_table_prints_as_kubectl_prints_it() {
        let table = json!({
            "columnDefinitions": [{"name": "Name"}, {"name": "Url"}, {"name": "Ready"}, {"name": "Extra", "priority": 1}],
            "rows": [
                {"cells": ["hello", "http://hello", "True", 3], "object": {"metadata": {"namespace": "default"}}},
                {"cells": ["x", null, "Unknown", null], "object": {"metadata": {"namespace": "shop"}}}
            ]
        });
        assert_eq!(
            Table::from_server(&table, false, false).render(true),
            "NAME    URL            READY\nhello   http://hello   True\nx                      Unknown\n"
        );
        assert_eq!(
            Table::from_server(&table, true, true).render(false),
            "default     hello   http://hello   True      3\nshop        x                      Unknown\n"
        );
    }
}
