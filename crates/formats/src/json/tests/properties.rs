//! Properties of arbitrary files.

use proptest::prelude::*;

use super::*;

pub(super) fn value() -> impl Strategy<Value = serde_json::Value> {
    let scalar = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map_into(),
        any::<i64>().prop_map_into(),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map_into(),
        any::<String>().prop_map_into(),
    ];
    scalar.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map_into(),
            prop::collection::hash_map("[a-c]{0,2}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// A value as [`shown`] writes it.
fn expected(value: Option<&serde_json::Value>) -> String {
    match value {
        None | Some(serde_json::Value::Null) => "-".to_owned(),
        Some(serde_json::Value::String(text)) => format!("s{text}"),
        Some(nested @ (serde_json::Value::Array(_) | serde_json::Value::Object(_))) => format!("n{nested}"),
        Some(scalar) => format!("p{scalar}"),
    }
}

proptest! {
    /// Any records, in any layout and any chunks, have the values that serde_json wrote.
    #[test]
    fn written_records_are_read(
        records in prop::collection::vec(prop::collection::hash_map("[a-dä]{0,2}", value(), 0..5), 0..8),
        layout in 0..3usize,
        chunk_bytes in 1..80usize,
    ) {
        let records: Vec<serde_json::Map<_, _>> =
            records.into_iter().map(|record| record.into_iter().collect()).collect();
        let texts: Vec<String> = records.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
        let file = match layout {
            0 => texts.join("\n"),
            1 => format!("[{}]", texts.join(" ,\n")),
            _ => texts.concat(),
        };
        let (keys, rows) = read_with(JsonDecoder::new(LIMITS), file.as_bytes(), chunk_bytes).unwrap();
        prop_assert_eq!(rows.len(), records.len());
        for ((_, fields), record) in rows.iter().zip(&records) {
            prop_assert!(record.keys().all(|key| keys.contains(key)));
            for (index, key) in keys.iter().enumerate() {
                let field = fields.get(index).map_or("-", String::as_str);
                prop_assert_eq!(field, expected(record.get(key)));
            }
        }
    }

    /// The decoder never panics, and chunks do not change the result.
    #[test]
    fn any_bytes_are_read_or_rejected(
        file in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            prop::collection::vec(
                prop::sample::select(&b"{}[]\",:\\ \n0a-.eu\xc3\xa9"[..]), 0..60
            ),
            "[\\[ ]?(\\{\"[ab]\":(1|\"\\\\\\\\u[dD][89a-f][0-9]{2}\"|\\[\\]|\\{\\}|nul)\\}[,\n ]?){0,5}\\]?".prop_map(String::into_bytes),
        ],
        chunk_bytes in 1..30usize,
    ) {
        let whole = read(&file).map_err(|error| error.to_string());
        let split = read_with(JsonDecoder::new(LIMITS), &file, chunk_bytes).map_err(|error| error.to_string());
        prop_assert_eq!(split, whole);
    }
}
