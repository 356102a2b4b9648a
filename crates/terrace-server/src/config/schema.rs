//! The file's form as a JSON Schema, for editors and for those who write files by program.
//!
//! 1. It is found out from what reads the file, by letting it read a file that does not exist and noting what it asks for. So a
//!    setting that is read is in the schema, under its name, and nothing else is.
//! 2. Unknown keys are refused in it, as they are when a file is read.
//! 3. It knows less than [`Config::load`]: not what has to be there, and not what goes together.

use super::{Config, Sources, answers, file, origins, sources};
use serde::de::value::{BorrowedStrDeserializer, MapDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What the words of a setting that takes one of a few may be: those that `check` knows.
fn words() -> Vec<(&'static str, Vec<&'static str>)> {
    let ack = vec!["fsync", "os", "memory"];
    let on_full = vec!["wait", "refuse"];
    let suspect = vec!["validate", "stale", "error"];
    vec![
        ("l1.policy", vec!["default", "lru"]),
        ("l2.on_error", vec!["bypass", "fail"]),
        ("bus.mode", vec!["coherent", "plain"]),
        ("defaults.compression.algo", vec!["zstd", "lz4", "none"]),
        ("defaults.suspect", suspect.clone()),
        ("keyspace.*.suspect", suspect),
        ("keyspace.*.source.freshness", answers::freshness_words()),
        ("keyspace.*.strategy", sources::strategy_words()),
        ("origin.*.type", origins::kind_words()),
        ("telemetry.log", vec!["auto", "pretty", "json"]),
        ("write_behind.ack", ack.clone()),
        ("write_behind.on_full", on_full.clone()),
        ("keyspace.*.write_behind.ack", ack),
        ("keyspace.*.write_behind.on_full", on_full),
    ]
}

impl Config {
    /// The form of the file, as a JSON Schema (draft 2020-12).
    ///
    /// # Examples
    /// ```
    /// let schema = terrace_server::config::Config::schema();
    /// assert_eq!(schema["properties"]["l1"]["additionalProperties"], false);
    /// ```
    #[expect(
        clippy::missing_panics_doc,
        reason = "every type of the file can be read from what is noted here"
    )]
    pub fn schema() -> Value {
        let mut schema = Value::Null;
        file::File::deserialize(Probe(&mut schema)).map(drop).expect("each type takes its example");
        for (path, words) in words() {
            if let Some(setting) = at(&mut schema, path) {
                *setting = json!({ "anyOf": [{ "enum": words }, { "type": "string", "pattern": "\\$\\{" }] });
            }
        }
        let defaults = Self::load(&Sources::none()).map(|config| config.leaves()).unwrap_or_default();
        for (key, value) in &defaults {
            if let (Some(Value::Object(setting)), Ok(value)) =
                (at(&mut schema, key), serde_json::to_value(value))
            {
                setting.insert("default".to_owned(), value);
            }
        }
        if let Value::Object(root) = &mut schema {
            root.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
            root.insert("title".to_owned(), "terrace.toml".into());
        }
        schema
    }
}

/// The part of a schema that is about a setting; `*` stands for any name.
fn at<'a>(schema: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(schema, |schema, name| match name {
        "*" => schema.get_mut("additionalProperties"),
        name => schema.get_mut("properties")?.get_mut(name),
    })
}

/// What is expected of text that is not quoted in errors.
const TEXT_EXPECTED: &str = "text in quotes";

type Error = serde::de::value::Error;

/// Notes what is asked of it, and gives an example of it.
struct Probe<'s>(&'s mut Value);

/// The type of a setting, by the words that its error has for what is expected.
fn scalar(expected: &str) -> Value {
    let types = match expected {
        TEXT_EXPECTED => json!(["string"]),
        "true or false" => json!(["boolean", "string", "integer"]),
        words if words.starts_with("a number from") || words == "a number" => json!(["number", "string"]),
        _ => json!(["integer", "string"]),
    };
    let mut schema = json!({ "type": types, "description": expected });
    if types == json!(["integer", "string"]) {
        schema["minimum"] = 0.into();
    }
    schema
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let expected = (&visitor as &dyn Expected).to_string();
        *self.0 = scalar(&expected);
        if expected == TEXT_EXPECTED { visitor.visit_str("") } else { visitor.visit_u64(1) }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        *self.0 = json!({ "type": "string" });
        visitor.visit_str("")
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        *self.0 = json!({ "type": "boolean" });
        visitor.visit_bool(true)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let mut items = Value::Null;
        let value = visitor.visit_seq(One(Some(&mut items)))?;
        *self.0 = json!({ "type": "array", "items": items });
        Ok(value)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let mut values = Value::Null;
        let value = visitor.visit_map(One(Some(&mut values)))?;
        *self.0 = json!({ "type": "object", "additionalProperties": values });
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if let [start, end, value] = fields
            && name.contains("spanned")
        {
            return visitor.visit_map(Spanned { names: [start, end, value], next: 0, schema: self.0 });
        }
        let mut properties = Map::new();
        let fields = Fields { names: fields.iter(), properties: &mut properties, current: "" };
        let value = visitor.visit_map(fields)?;
        *self.0 = json!({ "type": "object", "properties": properties, "additionalProperties": false });
        Ok(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = json!({ "enum": variants });
        visitor.visit_enum(First(variants.first().copied().unwrap_or_default()))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier
        ignored_any
    }
}

/// The fields of a struct, one after the other.
struct Fields<'s> {
    names: std::slice::Iter<'static, &'static str>,
    properties: &'s mut Map<String, Value>,
    current: &'static str,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(name) = self.names.next() else { return Ok(None) };
        self.current = name;
        seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(Probe(self.properties.entry(self.current).or_insert(Value::Null)))
    }
}

/// A value with its place: the place is nowhere, the value is noted.
struct Spanned<'s> {
    names: [&'static str; 3],
    next: usize,
    schema: &'s mut Value,
}

impl<'de> MapAccess<'de> for Spanned<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let name = self.names.get(self.next);
        self.next += 1;
        name.map(|name| seed.deserialize(BorrowedStrDeserializer::new(name))).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let is_value = self.next == self.names.len();
        let mut nowhere = Value::Null;
        seed.deserialize(Probe(if is_value { self.schema } else { &mut nowhere }))
    }
}

/// One entry of a table with any names, or one item of a list.
struct One<'s>(Option<&'s mut Value>);

impl<'de> MapAccess<'de> for One<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let mut name = Value::Null;
        self.0.as_ref().map(|_| seed.deserialize(Probe(&mut name))).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let schema = self.0.take().ok_or_else(|| Error::custom("there is one entry"))?;
        seed.deserialize(Probe(schema))
    }
}

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.take().map(|schema| seed.deserialize(Probe(schema))).transpose()
    }
}

/// The first of some words.
struct First(&'static str);

impl<'de> EnumAccess<'de> for First {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        Ok((seed.deserialize(BorrowedStrDeserializer::new(self.0))?, self))
    }
}

impl<'de> VariantAccess<'de> for First {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(Probe(&mut Value::Null))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(One(None))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(MapDeserializer::new(BTreeMap::<&str, &str>::new().into_iter()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_words_are_those_that_are_known() {
        for (path, words) in words() {
            let (first, rest) = path.split_once('.').expect("a dotted name");
            let setting = format!("{first}.{} = 'xxxxxxxxxxxxxxxxxxxxxxxxxxxx'", rest.replacen('*', "a", 1));
            let around = match first {
                "keyspace" if rest.contains("write_behind") => {
                    "write_behind.path = 'j'\norigin.o = { type = 'sqlite', file = 'f' }\n\
                     keyspace.a.pattern = 'a:{id}'\nkeyspace.a.strategy = 'write-behind'\n\
                     keyspace.a.source = { origin = 'o', load = 'select :id', store = 'select :id, :value' }\n"
                }
                "keyspace" if rest.contains("source") => {
                    "origin.o = { type = 'http', base_url = 'https://x' }\nkeyspace.a.pattern = 'a:{id}'\n\
                     keyspace.a.source.origin = 'o'\nkeyspace.a.source.load = 'GET /{id}'\n"
                }
                "keyspace" => "keyspace.a.pattern = 'a:{id}'\n",
                _ => "",
            };
            let error =
                Config::load(&Sources::text(format!("{around}{setting}\n"))).expect_err(path).to_string();
            let (_, help) = error.split_once("there is ").unwrap_or_else(|| panic!("{path}: {error}"));
            let known: Vec<&str> =
                help.lines().next().unwrap_or_default().split('`').skip(1).step_by(2).collect();
            assert_eq!(known, words, "{path}");
        }
    }

    #[test]
    fn it_has_every_setting_with_its_type_and_default() {
        let mut schema = Config::schema();
        for (path, expected) in [
            ("l1.max_entries", json!(["integer", "string"])),
            ("metrics.enabled", json!(["boolean", "string", "integer"])),
            ("keyspace.*.jitter", json!(["number", "string"])),
            ("l2.password", json!(["string"])),
            ("keyspace.*.source.load", json!("string")),
            ("origin.*.statement_timeout", json!(["integer", "string"])),
        ] {
            assert_eq!(at(&mut schema, path).expect(path)["type"], expected, "{path}");
        }
        assert_eq!(at(&mut schema, "l1.max_entries").expect("it is there")["default"], 10_000);
        assert_eq!(schema["additionalProperties"], false);
        for key in Config::load(&Sources::none()).expect("the defaults").leaves().keys() {
            assert!(at(&mut schema, key).is_some(), "{key}");
        }
    }
}
