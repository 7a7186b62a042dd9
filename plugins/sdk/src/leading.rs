//! What a value begins with when it is not the text that a parser expects: said in the message of the rejection.

/// The first bytes of formats that end up in topics of text, and what they are called.
const MAGIC: [(&[u8], &str); 7] = [
    (b"\xef\xbb\xbf", "a byte order mark (BOM, U+FEFF): write the text without it"),
    (b"\xff\xfe", "a byte order mark of UTF-16: write UTF-8"),
    (b"\xfe\xff", "a byte order mark of UTF-16: write UTF-8"),
    (b"\x1f\x8b", "gzip's magic number: compress by the producer's `compression.type`, which is undone on the way"),
    (
        b"\x28\xb5\x2f\xfd",
        "Zstandard's magic number: compress by the producer's `compression.type`, which is undone on the way",
    ),
    (b"Obj\x01", "the magic number of an Avro file"),
    (b"PAR1", "the magic number of a Parquet file"),
];

/// A sentence about the first bytes of a value where they are a known mark of something else than plain text; `None` for
/// anything else.
pub fn leading(value: &[u8]) -> Option<String> {
    if let Some((_, what)) = MAGIC.iter().find(|(magic, _)| value.starts_with(magic)) {
        return Some(format!("the value begins with {what}"));
    }
    match value {
        [0, one, two, three, four, ..] => Some(format!(
            "the value begins with the byte 0x00 and the schema id {}, as serializers of Confluent's schema registry frame \
             it: use a serializer without the registry, or take the first 5 bytes off in a transform",
            u32::from_be_bytes([*one, *two, *three, *four])
        )),
        [first @ (0..=8 | 14..=31 | 127), ..] => {
            Some(format!("the value begins with the byte {first:#04x}, which is no text"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_named_and_text_has_none() {
        for (value, words) in [
            (&b"\xef\xbb\xbf1,2"[..], "BOM"),
            (b"\xff\xfe1\0", "UTF-16"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"\0\0\0\x01\x02{}", "schema id 258"),
            (b"\0\0", "0x00"),
            (b"\x02a", "0x02"),
        ] {
            let said = leading(value).unwrap();
            assert!(said.contains(words), "{said}");
        }
        for text in [&b""[..], b"1,2", b"{}", b"\t1", b"\n", "é".as_bytes()] {
            assert_eq!(leading(text), None, "{text:?}");
        }
    }
}
