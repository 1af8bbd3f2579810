//! As much of JSON Schema as `tollhouse schema` uses, except patterns.

use serde_json::{Map, Value};

/// Why a value does not fit a schema; `None` when it does.
pub fn misfit(root: &Value, schema: &Value, value: &Value, path: &str) -> Option<String> {
    let Value::Object(schema) = schema else { return (*schema == false).then(|| format!("{path}: nothing fits")) };
    for (keyword, rule) in schema {
        let trouble = match keyword.as_str() {
            "$ref" => {
                let name = rule.as_str().and_then(|name| name.strip_prefix("#/$defs/")).expect("a reference to $defs");
                misfit(root, &root["$defs"][name], value, path)
            }
            "anyOf" => {
                let reasons: Vec<_> = items(rule).iter().map(|each| misfit(root, each, value, path)).collect();
                let none = reasons.iter().all(Option::is_some);
                none.then(|| format!("{path}: none of {reasons:?}"))
            }
            "type" => (!is_of_type(value, rule)).then(|| format!("{path}: {value} is not of type {rule}")),
            "const" => (value != rule).then(|| format!("{path}: {value} is not {rule}")),
            "enum" => (!items(rule).contains(value)).then(|| format!("{path}: {value} is none of {rule}")),
            "minimum" => (value.as_i64() < rule.as_i64()).then(|| format!("{path}: too small")),
            "maximum" => (value.as_i64() > rule.as_i64()).then(|| format!("{path}: too large")),
            "minItems" => value.as_array().is_some_and(Vec::is_empty).then(|| format!("{path}: no items")),
            "minProperties" => value.as_object().is_some_and(Map::is_empty).then(|| format!("{path}: no keys")),
            "required" => items(rule)
                .iter()
                .find(|key| value.is_object() && value.get(key.as_str().expect("a key")).is_none())
                .map(|key| format!("{path}: {key} is missing")),
            "items" => value
                .as_array()
                .and_then(|values| values.iter().find_map(|item| misfit(root, rule, item, &format!("{path}[]")))),
            "properties" | "additionalProperties" => None,
            "pattern" | "propertyNames" | "description" | "examples" | "$defs" | "$schema" | "title" => None,
            other => panic!("the validator of this test does not know `{other}`"),
        };
        if trouble.is_some() {
            return trouble;
        }
    }
    members(root, schema, value, path)
}

fn members(root: &Value, schema: &Map<String, Value>, value: &Value, path: &str) -> Option<String> {
    let Value::Object(values) = value else { return None };
    let known = schema.get("properties").and_then(Value::as_object);
    values.iter().find_map(|(key, value)| {
        let rule = known.and_then(|known| known.get(key)).or_else(|| schema.get("additionalProperties"));
        rule.and_then(|rule| misfit(root, rule, value, &format!("{path}.{key}")))
    })
}

fn items(rule: &Value) -> &[Value] {
    rule.as_array().expect("the keyword takes a list")
}

fn is_of_type(value: &Value, name: &Value) -> bool {
    match name.as_str().expect("one type") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("the validator of this test does not know the type {other}"),
    }
}
