//! Detects the encoding of a text file from all of its bytes (`CSV_ENCODING=auto`).
//!
//! A file that is valid UTF-8 throughout is UTF-8. For other files the bytes are compared with the usual texts of each encoding.
//! A file is converted only after its last byte was compared: no decision comes from a sample.

use chardetng::{Iso2022JpDetection, Utf8Detection};

use crate::text::{TextEncoding, tells_encoding};

/// The first bytes of a file that may tell its encoding.
const HEAD_BYTES: usize = 4;

/// Checks whether a file is UTF-8, or tells its encoding by its first bytes.
#[derive(Debug, Default)]
pub struct Utf8Check {
    head: Vec<u8>,
    /// The beginning of a character that the end of a chunk cut.
    partial: Vec<u8>,
    is_other: bool,
}

impl Utf8Check {
    /// Adds the next bytes of the file.
    pub fn push(&mut self, chunk: &[u8]) {
        let missing = HEAD_BYTES.saturating_sub(self.head.len());
        self.head.extend_from_slice(&chunk[..missing.min(chunk.len())]);
        let mut rest = chunk;
        while !self.is_other && !self.partial.is_empty() {
            let Some((byte, after)) = rest.split_first() else { return };
            self.partial.push(*byte);
            rest = after;
            match std::str::from_utf8(&self.partial) {
                Ok(_) => self.partial.clear(),
                Err(error) => self.is_other = error.error_len().is_some(),
            }
        }
        if self.is_other {
            return;
        }
        if let Err(error) = std::str::from_utf8(rest) {
            self.is_other = error.error_len().is_some();
            self.partial.extend_from_slice(&rest[error.valid_up_to()..]);
        }
    }

    /// Whether no other encoding has to be detected.
    pub fn is_known(&self) -> bool {
        tells_encoding(&self.head) || !self.is_other && self.partial.is_empty()
    }

    /// Whether more bytes can still change the result.
    pub fn is_open(&self) -> bool {
        !self.is_other
    }
}

/// Compares a file that is not UTF-8 with the texts of each encoding.
pub struct EncodingDetector(chardetng::EncodingDetector);

impl std::fmt::Debug for EncodingDetector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("EncodingDetector")
    }
}

impl Default for EncodingDetector {
    fn default() -> Self {
        Self(chardetng::EncodingDetector::new(Iso2022JpDetection::Deny))
    }
}

impl EncodingDetector {
    /// Adds the next bytes of the file.
    pub fn push(&mut self, chunk: &[u8]) {
        self.0.feed(chunk, false);
    }

    /// The encoding, after the last byte.
    pub fn finish(mut self) -> TextEncoding {
        self.0.feed(&[], true);
        TextEncoding::Detected(self.0.guess(None, Utf8Detection::Deny))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    /// As a reader does it: `Utf8` if the first check succeeds.
    fn detected(file: &[u8], chunk_bytes: usize) -> TextEncoding {
        let mut check = Utf8Check::default();
        file.chunks(chunk_bytes).for_each(|chunk| check.push(chunk));
        if check.is_known() {
            return TextEncoding::Utf8;
        }
        let mut detector = EncodingDetector::default();
        file.chunks(chunk_bytes).for_each(|chunk| detector.push(chunk));
        detector.finish()
    }

    #[rstest]
    #[case::western("id,name,city\n1,Jürgen Müller,Köln\n2,Zoë Brontë,Málaga\n3,Gürkan Öz,Zürich\n", "windows-1252")]
    #[case::currency("item;price\nKäse;12,50 €\nCrème brûlée;7,00 €\n", "windows-1252")]
    #[case::cyrillic("имя,город\nИван Петров,Москва\nОльга Смирнова,Санкт-Петербург\n", "windows-1251")]
    #[case::central("imię,miasto\nŁukasz Żółć,Łódź\nMałgorzata Dąbrowska,Częstochowa\n", "windows-1250")]
    #[case::japanese("氏名,住所\n山田太郎,東京都千代田区\n佐藤花子,大阪府大阪市\n", "Shift_JIS")]
    #[case::korean("이름,도시\n김철수,서울특별시\n이영희,부산광역시\n", "EUC-KR")]
    #[case::simplified("姓名,城市\n王小明,北京市朝阳区\n李丽,上海市浦东新区\n", "gb18030")]
    #[case::greek("όνομα,πόλη\nΓιώργος Παπαδόπουλος,Αθήνα\nΜαρία,Θεσσαλονίκη\n", "windows-1253")]
    fn usual_text_is_detected(#[case] text: &str, #[case] label: &str) {
        let encoding = encoding_rs::Encoding::for_label(label.as_bytes()).unwrap();
        let (bytes, _, has_errors) = encoding.encode(text);
        assert!(!has_errors);
        for chunk_bytes in [1, 2, 3, 7, 1000] {
            let TextEncoding::Detected(found) = detected(&bytes, chunk_bytes) else { panic!("{text}") };
            assert_eq!(found.decode_without_bom_handling(&bytes).0, text, "{}", found.name());
            assert_eq!(detected(text.as_bytes(), chunk_bytes), TextEncoding::Utf8);
        }
    }

    #[rstest]
    #[case::empty(b"")]
    #[case::ascii(b"a,b\n1,2\n")]
    #[case::mark(b"\xff\xfea\0,\0\xe9\0")]
    #[case::big_endian(b"\0a\0,\0\xe9")]
    #[case::utf8_mark(b"\xef\xbb\xbfa")]
    fn first_bytes_and_utf8_win(#[case] file: &[u8]) {
        assert_eq!(detected(file, 1), TextEncoding::Utf8);
    }

    #[test]
    fn one_last_byte_decides() {
        let mut file = "ä".repeat(10_000).into_bytes();
        assert_eq!(detected(&file, 777), TextEncoding::Utf8);
        file.push(0xc3);
        assert!(matches!(detected(&file, 777), TextEncoding::Detected(_)));
    }

    proptest! {
        #[test]
        fn utf8_is_known_in_any_chunks(file in prop_oneof![
            any::<String>().prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..40),
        ], chunk_bytes in 1..9usize) {
            let is_known = std::str::from_utf8(&file).is_ok() || tells_encoding(&file);
            prop_assert_eq!(detected(&file, chunk_bytes) == TextEncoding::Utf8, is_known);
        }
    }
}
