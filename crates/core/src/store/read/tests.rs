use rstest::rstest;

use super::*;

#[rstest]
#[case("gzip", Some("gzip"))]
#[case("aws-chunked", None)]
#[case("aws-chunked,gzip", Some("gzip"))]
#[case("gzip, AWS-Chunked", Some("gzip"))]
#[case("", None)]
fn aws_chunked_is_not_a_content_encoding(#[case] header: &str, #[case] expected: Option<&str>) {
    assert_eq!(stored_encoding(header).as_deref(), expected);
}
