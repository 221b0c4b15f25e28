//! Checks geometries in well-known text, because MariaDB stores NULL in place of a text that it cannot read.
//!
//! Only two dimensions and no SRID: that is what `ST_GeomFromText` reads in the same way on every server.

use crate::destination::check::{Rejection, double};

const REASON: Rejection = "is not a geometry in well-known text (WKT) of two dimensions";

/// The most nested collections.
const MAX_DEPTH: usize = 16;

/// Checks a geometry and writes it with one spelling.
pub(super) fn write(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Rejection> {
    out.clear();
    let mut parser = Parser { rest: bytes, out };
    parser.geometry(0)?;
    parser.skip_spaces();
    if parser.rest.is_empty() { Ok(()) } else { Err(REASON) }
}

struct Parser<'a> {
    rest: &'a [u8],
    out: &'a mut Vec<u8>,
}

/// A point as two numbers.
type Point = (f64, f64);

impl Parser<'_> {
    fn geometry(&mut self, depth: usize) -> Result<(), Rejection> {
        let name = self.word().to_ascii_uppercase();
        self.out.extend_from_slice(&name);
        match name.as_slice() {
            b"POINT" => self.in_parentheses(|parser| parser.point().map(drop)),
            b"LINESTRING" => self.line(),
            b"POLYGON" => self.polygon(),
            b"MULTIPOINT" => self.list(Self::member_point),
            b"MULTILINESTRING" => self.list(Self::line),
            b"MULTIPOLYGON" => self.list(Self::polygon),
            b"GEOMETRYCOLLECTION" if depth < MAX_DEPTH => {
                if self.rest.trim_ascii_start().eq_ignore_ascii_case(b"EMPTY") {
                    self.rest = b"";
                    self.out.extend_from_slice(b" EMPTY");
                    return Ok(());
                }
                self.list(|parser| parser.geometry(depth + 1))
            }
            _ => Err(REASON),
        }
    }

    /// At least two points.
    fn line(&mut self) -> Result<(), Rejection> {
        if self.points()?.len() < 2 { Err(REASON) } else { Ok(()) }
    }

    /// Closed rings.
    fn polygon(&mut self) -> Result<(), Rejection> {
        self.list(|parser| {
            let points = parser.points()?;
            if points.len() >= 4 && points.first() == points.last() { Ok(()) } else { Err(REASON) }
        })
    }

    /// A point of a MULTIPOINT, with or without parentheses.
    fn member_point(&mut self) -> Result<(), Rejection> {
        self.skip_spaces();
        let Some(rest) = self.rest.strip_prefix(b"(") else { return self.point().map(drop) };
        self.rest = rest;
        self.point()?;
        self.skip_spaces();
        self.rest = self.rest.strip_prefix(b")").ok_or(REASON)?;
        Ok(())
    }

    fn points(&mut self) -> Result<Vec<Point>, Rejection> {
        let mut points = Vec::new();
        self.list(|parser| {
            points.push(parser.point()?);
            Ok(())
        })?;
        Ok(points)
    }

    fn list(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), Rejection>) -> Result<(), Rejection> {
        self.in_parentheses(|parser| {
            loop {
                item(parser)?;
                parser.skip_spaces();
                let Some(rest) = parser.rest.strip_prefix(b",") else { return Ok(()) };
                parser.rest = rest;
                parser.out.push(b',');
            }
        })
    }

    fn in_parentheses(&mut self, inner: impl FnOnce(&mut Self) -> Result<(), Rejection>) -> Result<(), Rejection> {
        self.skip_spaces();
        self.rest = self.rest.strip_prefix(b"(").ok_or(REASON)?;
        self.out.push(b'(');
        inner(self)?;
        self.skip_spaces();
        self.rest = self.rest.strip_prefix(b")").ok_or(REASON)?;
        self.out.push(b')');
        Ok(())
    }

    fn point(&mut self) -> Result<Point, Rejection> {
        let x = self.number()?;
        self.out.push(b' ');
        Ok((x, self.number()?))
    }

    /// A number that a double stores exactly.
    fn number(&mut self) -> Result<f64, Rejection> {
        self.skip_spaces();
        let is_part = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
        let end = self.rest.iter().position(|byte| !is_part(byte)).unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.out.extend_from_slice(number);
        if number.is_empty() { Err(REASON) } else { double(number) }
    }

    fn word(&mut self) -> &[u8] {
        self.skip_spaces();
        let end = self.rest.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn written(text: &str) -> Option<String> {
        let mut out = Vec::new();
        write(text.as_bytes(), &mut out).ok().map(|()| String::from_utf8(out).unwrap())
    }

    #[rstest]
    #[case("POINT(1 2)", "POINT(1 2)")]
    #[case(" point ( 1.5   -2e3 ) ", "POINT(1.5 -2e3)")]
    #[case("LINESTRING(0 0, 1 1)", "LINESTRING(0 0,1 1)")]
    #[case("POLYGON((0 0,1 0,1 1,0 0))", "POLYGON((0 0,1 0,1 1,0 0))")]
    #[case("MULTIPOINT((1 2), 3 4)", "MULTIPOINT(1 2,3 4)")]
    #[case("MULTILINESTRING((0 0,1 1),(2 2,3 3))", "MULTILINESTRING((0 0,1 1),(2 2,3 3))")]
    #[case("MULTIPOLYGON(((0 0,1 0,1 1,0 0)))", "MULTIPOLYGON(((0 0,1 0,1 1,0 0)))")]
    #[case("GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(0 0,1 1))", "GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(0 0,1 1))")]
    #[case("GEOMETRYCOLLECTION EMPTY", "GEOMETRYCOLLECTION EMPTY")]
    fn geometry_is_written_with_one_spelling(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(written(text).as_deref(), Some(expected));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "POINT",
            "POINT EMPTY",
            "POINT(1)",
            "POINT(1 2 3)",
            "POINT Z(1 2 3)",
            "POINT(1 2",
            "POINT(1 2))",
            "SRID=4326;POINT(1 2)",
            "POINT(1,2)",
            "POINT(x y)",
            "POINT(0.1000000000000000055511151231257827 0)",
            "LINESTRING(0 0)",
            "POLYGON((0 0,1 0,1 1,0 1))",
            "POLYGON((0 0,1 0,0 0))",
            "CIRCLE(0 0)",
            "POINT(1 2) OR 1",
        ] {
            assert_eq!(written(text), None, "{text}");
        }
        let deep = "GEOMETRYCOLLECTION(".repeat(100_000);
        assert_eq!(written(&deep), None);
    }
}
