//! The store against answers that a real server gives only on a bad day.

use bytes::Bytes;
use jiff::Timestamp;
use rstest::rstest;

use super::moves::{CopyLimits, ObjectDisposition};
use super::scripted_responses::{Reply, ScriptedResponses};
use super::write::{Created, Deleted};
use crate::cost::Requests;
use crate::error::{ErrorKind, Result};
use crate::object::{ObjectRef, ObjectVersion};

const ETAG: &str = "\"00000000000000000000000000000001\"";
const OTHER: &str = "\"00000000000000000000000000000002\"";

fn source(size: u64) -> ObjectVersion {
    ObjectVersion::new(ObjectRef::new("b", "uploads/a b.csv"), ETAG.into(), size, Timestamp::UNIX_EPOCH, None)
}

fn body(bytes: &str) -> Reply {
    Reply::new(200, bytes).with("etag", ETAG)
}

fn rest(bytes: &str) -> Reply {
    Reply::new(206, bytes).with("etag", ETAG)
}

async fn read_all(server: &ScriptedResponses, source: &ObjectVersion) -> Result<String> {
    let mut text = Vec::new();
    let mut body = server.store.open(source).await?;
    while let Some(chunk) = body.next().await? {
        text.extend_from_slice(&chunk);
    }
    assert_eq!(body.next().await?, None, "the end stays the end");
    Ok(String::from_utf8(text).unwrap())
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    let error = result.unwrap_err();
    assert!(error.to_string().starts_with("s3://b/"), "the object is not named: {error}");
    error.kind()
}

#[tokio::test]
async fn a_body_that_breaks_off_is_read_on_from_there() {
    let server = ScriptedResponses::new(vec![
        body("0123456789").cut_after(4),
        rest("456789").cut_after(0),
        rest("456789").cut_after(5),
        rest("9"),
    ])
    .await;
    assert_eq!(read_all(&server, &source(10)).await.unwrap(), "0123456789");
    let asked = server.asked();
    let ranges: Vec<Option<&str>> = asked.iter().map(|asked| asked.header("range")).collect();
    assert_eq!(ranges, [None, Some("bytes=4-"), Some("bytes=4-"), Some("bytes=9-")]);
    assert!(asked.iter().all(|asked| asked.header("if-match") == Some(ETAG)));
}

#[tokio::test]
async fn a_body_that_was_overwritten_is_not_read_on() {
    let server =
        ScriptedResponses::new(vec![body("0123456789").cut_after(4), Reply::error(412, "PreconditionFailed")]).await;
    assert_eq!(kind(read_all(&server, &source(10)).await), ErrorKind::SourceChanged);
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn a_body_of_another_version_is_refused_even_where_if_match_is_not_known() {
    let server = ScriptedResponses::new(vec![Reply::new(200, "0123456789").with("etag", "\"other\"")]).await;
    assert_eq!(kind(read_all(&server, &source(10)).await), ErrorKind::SourceChanged);
}

#[tokio::test]
async fn a_body_that_never_comes_is_given_up() {
    let mut replies = vec![body("0123456789").cut_after(0)];
    replies.extend((0..6).map(|_| body("0123456789").cut_after(0)));
    let server = ScriptedResponses::new(replies).await;
    assert_eq!(kind(read_all(&server, &source(10)).await), ErrorKind::Service);
    assert_eq!(server.asked().len(), 7);
}

#[tokio::test]
async fn a_body_of_the_wrong_length_is_refused() {
    let server = ScriptedResponses::new(vec![body("01234")]).await;
    assert_eq!(kind(read_all(&server, &source(10)).await), ErrorKind::Service);
}

#[tokio::test]
async fn a_body_with_the_wrong_checksum_is_refused_and_not_read_again() {
    let server = ScriptedResponses::new(vec![body("0123456789").with("x-amz-checksum-crc32", "AAAAAA==")]).await;
    assert_eq!(kind(read_all(&server, &source(10)).await), ErrorKind::Service);
    assert_eq!(server.asked().len(), 1);
}

#[rstest]
#[case::gone(vec![Reply::head(0).status(404), Reply::error(404, "NoSuchKey")], ErrorKind::SourceMissing)]
#[case::version_gone(vec![Reply::head(0).status(404), Reply::error(404, "NoSuchVersion")], ErrorKind::SourceMissing)]
#[case::delete_marker(
    vec![Reply::head(0).status(405).with("x-amz-delete-marker", "true")],
    ErrorKind::SourceMissing
)]
#[case::no_bucket(vec![Reply::head(0).status(404), Reply::error(404, "NoSuchBucket")], ErrorKind::Settings)]
#[case::an_outage_is_no_absence(vec![Reply::head(0).status(404), Reply::new(404, "<html>no</html>")], ErrorKind::Service)]
#[case::busy_is_no_absence(vec![Reply::head(0).status(404), Reply::error(503, "SlowDown")], ErrorKind::Throttled)]
#[case::forbidden(vec![Reply::head(0).status(403)], ErrorKind::Forbidden)]
#[case::forbidden_only_for_get(vec![Reply::head(0).status(404), Reply::error(403, "AccessDenied")], ErrorKind::Forbidden)]
#[case::throttled(vec![Reply::head(0).status(503)], ErrorKind::Throttled)]
#[case::broken(vec![Reply::head(0).status(500)], ErrorKind::Service)]
#[tokio::test]
async fn looking_tells_absent_from_forbidden_from_broken(#[case] replies: Vec<Reply>, #[case] expected: ErrorKind) {
    let server = ScriptedResponses::new(replies).await;
    let result = server.store.head(&ObjectRef::new("b", "k")).await;
    assert_eq!(kind(result), expected);
    server.asked();
}

#[tokio::test]
async fn only_a_missing_key_is_not_there() {
    let server = ScriptedResponses::new(vec![
        Reply::error(503, "SlowDown"),
        Reply::new(404, ""),
        Reply::error(404, "NoSuchBucket"),
        Reply::error(404, "NoSuchKey"),
        rest("0"),
        Reply::error(416, "InvalidRange"),
        body(""),
    ])
    .await;
    for expected in [ErrorKind::Throttled, ErrorKind::Service, ErrorKind::Settings] {
        assert_eq!(kind(server.store.etag_of("b", "k").await), expected);
    }
    for expected in [None, Some(ETAG), Some(ETAG)] {
        assert_eq!(server.store.etag_of("b", "k").await.unwrap().as_deref(), expected);
    }
    assert!(server.asked()[..5].iter().all(|asked| asked.header("range") == Some("bytes=0-0")));
}

#[tokio::test]
async fn an_outage_is_no_missing_lease() {
    let server = ScriptedResponses::new(vec![Reply::error(503, "SlowDown"), Reply::error(404, "NoSuchKey")]).await;
    assert_eq!(kind(server.store.read_small("b", "k", 10).await), ErrorKind::Throttled);
    assert_eq!(server.store.read_small("b", "k", 10).await.unwrap(), None);
}

#[tokio::test]
async fn a_small_object_that_breaks_off_is_read_again() {
    let server = ScriptedResponses::new(vec![body("0123456789").cut_after(3), body("0123456789")]).await;
    let small = server.store.read_small("b", "k", 10).await.unwrap().unwrap();
    assert_eq!((small.bytes.as_ref(), small.etag.as_str()), (b"0123456789".as_slice(), ETAG));
}

#[tokio::test]
async fn a_page_that_fails_is_not_the_end_of_the_listing() {
    let page = |key: &str, next: &str| {
        Reply::new(
            200,
            format!(
                "<ListBucketResult><EncodingType>url</EncodingType>{next}\
                 <Contents><Key>{key}</Key><Size>3</Size></Contents></ListBucketResult>"
            ),
        )
    };
    let server = ScriptedResponses::new(vec![
        page("a%2Bb+c", "<NextContinuationToken>t</NextContinuationToken>"),
        Reply::error(503, "SlowDown"),
        page("d", ""),
    ])
    .await;
    let mut pages = server.store.list("b", "p/");
    assert_eq!(pages.next().await.unwrap().unwrap()[0].key, "a+b c");
    assert_eq!(kind(pages.next().await), ErrorKind::Throttled);
    assert_eq!(pages.next().await.unwrap().unwrap()[0].key, "d");
    assert_eq!(pages.next().await.unwrap(), None);
    assert!(server.asked()[2].line.contains("continuation-token=t"));
}

#[tokio::test]
async fn a_conditional_write_that_meets_another_is_tried_again() {
    let server = ScriptedResponses::new(vec![
        Reply::error(409, "ConditionalRequestConflict"),
        Reply::error(409, "ConditionalRequestConflict"),
        Reply::new(200, "").with("etag", ETAG),
        Reply::error(412, "PreconditionFailed"),
        Reply::error(503, "SlowDown"),
    ])
    .await;
    let put = async || server.store.put_new("b", "k", Bytes::from_static(b"x"), "text/plain").await;
    assert_eq!(put().await.unwrap(), Created::New { etag: ETAG.into() });
    assert_eq!(put().await.unwrap(), Created::Exists);
    assert_eq!(kind(put().await), ErrorKind::Throttled);
    assert!(server.asked().iter().all(|asked| asked.header("if-none-match") == Some("*")));
}

#[tokio::test]
async fn a_conditional_delete_has_three_ends() {
    let server = ScriptedResponses::new(vec![
        Reply::new(204, ""),
        Reply::error(404, "NoSuchKey"),
        Reply::error(412, "PreconditionFailed"),
        Reply::new(404, "<html>"),
    ])
    .await;
    let delete = async || server.store.delete_if("b", "k", ETAG).await;
    assert_eq!(delete().await.unwrap(), Deleted::Done);
    assert_eq!(delete().await.unwrap(), Deleted::Gone);
    assert_eq!(delete().await.unwrap(), Deleted::Changed);
    assert_eq!(kind(delete().await), ErrorKind::Service);
    assert!(server.asked().iter().all(|asked| asked.header("if-match") == Some(ETAG)));
}

fn head(size: usize) -> Reply {
    Reply::head(size).with("etag", ETAG).with("content-type", "text/csv").with("x-amz-meta-owner", "ann")
}

fn copy_of(source: &ObjectVersion, size: usize) -> Reply {
    head(size).with("x-amz-meta-spillway-source-id", source.id.as_str())
}

fn absent() -> Reply {
    Reply::head(0).status(404)
}

fn copied() -> Reply {
    Reply::new(200, format!("<CopyObjectResult><ETag>{ETAG}</ETag></CopyObjectResult>"))
}

#[tokio::test]
async fn a_move_copies_verifies_and_deletes_under_conditions() {
    let source = source(5);
    let replies = vec![head(5), absent(), copied(), copy_of(&source, 5), Reply::new(204, "")];
    let server = ScriptedResponses::new(replies).await;
    let moved = server.store.move_object(&source, "processed/a b.csv").await.unwrap();
    assert_eq!((moved.is_copied, moved.source), (true, ObjectDisposition::Deleted));
    assert_eq!(server.methods(), ["HEAD", "HEAD", "PUT", "HEAD", "DELETE"]);
    let asked = server.asked();
    let copy = &asked[2];
    assert_eq!(copy.header("x-amz-copy-source"), Some("b/uploads/a%20b.csv"));
    assert_eq!(copy.header("x-amz-copy-source-if-match"), Some(ETAG));
    assert_eq!(copy.header("if-none-match"), Some("*"));
    assert_eq!(copy.header("content-type"), Some("text/csv"));
    assert_eq!(copy.header("x-amz-meta-owner"), Some("ann"));
    assert_eq!(copy.header("x-amz-meta-spillway-source-id"), Some(source.id.as_str()));
    assert_eq!(asked[4].header("if-match"), Some(ETAG));
}

#[tokio::test]
async fn a_version_is_copied_and_deleted_by_its_id() {
    let mut object = ObjectRef::new("b", "k");
    object.version_id = Some("v/1".into());
    let source = ObjectVersion::new(object, ETAG.into(), 5, Timestamp::UNIX_EPOCH, None);
    let replies = vec![head(5), absent(), copied(), copy_of(&source, 5), Reply::new(204, "")];
    let server = ScriptedResponses::new(replies).await;
    server.store.move_object(&source, "d").await.unwrap();
    let asked = server.asked();
    assert!(asked[0].line.contains("versionId=v%2F1"), "{}", asked[0].line);
    assert_eq!(asked[2].header("x-amz-copy-source"), Some("b/k?versionId=v%2F1"));
    assert!(asked[4].line.contains("versionId=v%2F1"), "{}", asked[4].line);
}

#[rstest]
#[case::an_error_behind_a_200(Reply::error(200, "InternalError"), ErrorKind::Service)]
#[case::slow_down_behind_a_200(Reply::error(200, "SlowDown"), ErrorKind::Throttled)]
#[case::kms(Reply::error(400, "KMS.DisabledException"), ErrorKind::Forbidden)]
#[tokio::test]
async fn a_copy_that_fails_deletes_nothing(#[case] copy: Reply, #[case] expected: ErrorKind) {
    let server = ScriptedResponses::new(vec![head(5), absent(), copy]).await;
    assert_eq!(kind(server.store.move_object(&source(5), "d").await), expected);
    assert_eq!(server.methods(), ["HEAD", "HEAD", "PUT"]);
}

#[tokio::test]
async fn a_source_that_changes_during_the_copy_is_left_alone() {
    let replies = vec![head(5), absent(), Reply::error(412, "PreconditionFailed"), absent()];
    let server = ScriptedResponses::new(replies).await;
    assert_eq!(kind(server.store.move_object(&source(5), "d").await), ErrorKind::SourceChanged);
    assert_eq!(server.methods(), ["HEAD", "HEAD", "PUT", "HEAD"]);
}

#[tokio::test]
async fn what_was_just_looked_at_is_copied_at_once() {
    let object = ObjectRef::new("b", "uploads/a b.csv");
    let server = ScriptedResponses::new(vec![head(5), copied(), head(5), Reply::new(204, "")]).await;
    let source = server.store.head(&object).await.unwrap();
    let moved = server.store.move_object(&source, "d").await.unwrap();
    assert_eq!((moved.is_copied, moved.source), (true, ObjectDisposition::Deleted));
    let asked = server.asked();
    let methods: Vec<&str> = asked.iter().map(|asked| asked.line.split(' ').next().unwrap()).collect();
    assert_eq!(methods, ["HEAD", "PUT", "HEAD", "DELETE"]);
    assert_eq!(server.store.requests(), Requests { writes: 1.0, reads: 2.0 });
    assert_eq!(asked[1].header("x-amz-copy-source-if-match"), Some(ETAG));
    assert_eq!(asked[1].header("if-none-match"), Some("*"));
}

#[rstest]
#[case::something_else_lies_there(
    vec![Reply::error(412, "PreconditionFailed"), Reply::head(4).with("etag", OTHER), Reply::head(4).with("etag", OTHER), head(5), Reply::head(4).with("etag", OTHER)],
    ErrorKind::DestinationTaken
)]
#[case::it_was_overwritten(
    vec![Reply::error(412, "PreconditionFailed"), absent(), Reply::head(5).with("etag", OTHER), absent()],
    ErrorKind::SourceChanged
)]
#[tokio::test]
async fn what_has_changed_since_the_look_is_moved_with_care(#[case] replies: Vec<Reply>, #[case] expected: ErrorKind) {
    let server = ScriptedResponses::new([head(5)].into_iter().chain(replies).collect()).await;
    let source = server.store.head(&ObjectRef::new("b", "uploads/a b.csv")).await.unwrap();
    assert_eq!(kind(server.store.move_object(&source, "d").await), expected);
    server.asked();
}

#[tokio::test]
async fn a_copy_whose_answer_was_lost_is_recognised() {
    let source = source(5);
    let replies = vec![
        head(5),
        absent(),
        Reply::error(412, "PreconditionFailed"),
        copy_of(&source, 5),
        copy_of(&source, 5),
        Reply::new(204, ""),
    ];
    let server = ScriptedResponses::new(replies).await;
    assert_eq!(server.store.move_object(&source, "d").await.unwrap().source, ObjectDisposition::Deleted);
    server.asked();
}

#[rstest]
#[case::too_short(copy_of(&source(5), 4))]
#[case::another_content(Reply::head(5).with("etag", "\"00000000000000000000000000000002\"").with("x-amz-meta-spillway-source-id", source(5).id.as_str()))]
#[case::another_checksum(copy_of(&source(5), 5).with("x-amz-checksum-type", "FULL_OBJECT").with("x-amz-checksum-crc32", "BBBBBB=="))]
#[tokio::test]
async fn a_copy_that_is_not_the_source_keeps_the_source(#[case] copy: Reply) {
    let original = head(5).with("x-amz-checksum-type", "FULL_OBJECT").with("x-amz-checksum-crc32", "AAAAAA==");
    let server = ScriptedResponses::new(vec![original, absent(), copied(), copy]).await;
    assert_eq!(server.store.move_object(&source(5), "d").await.unwrap_err().kind(), ErrorKind::DestinationTaken);
    assert_eq!(server.methods(), ["HEAD", "HEAD", "PUT", "HEAD"]);
}

#[tokio::test]
async fn an_encrypted_copy_may_have_another_etag() {
    let source = source(5);
    let copy = Reply::head(5)
        .with("etag", "\"00000000000000000000000000000002\"")
        .with("x-amz-server-side-encryption", "aws:kms")
        .with("x-amz-meta-spillway-source-id", source.id.as_str());
    let replies = vec![head(5), absent(), copied(), copy, Reply::new(204, "")];
    let server = ScriptedResponses::new(replies).await;
    assert_eq!(server.store.move_object(&source, "d").await.unwrap().source, ObjectDisposition::Deleted);
}

#[tokio::test]
async fn a_missing_source_without_a_copy_is_no_move() {
    let server = ScriptedResponses::new(vec![absent(), absent(), Reply::error(404, "NoSuchKey")]).await;
    assert_eq!(kind(server.store.move_object(&source(5), "d").await), ErrorKind::SourceMissing);
    server.asked();
}

#[tokio::test]
async fn a_part_copy_that_fails_behind_a_200_is_aborted() {
    let started =
        Reply::new(200, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>");
    let part = || Reply::new(200, format!("<CopyPartResult><ETag>{ETAG}</ETag></CopyPartResult>"));
    let replies = vec![head(5), absent(), started, part(), Reply::error(200, "InternalError"), Reply::new(204, "")];
    let server = ScriptedResponses::new(replies).await;
    let limits = CopyLimits { single_max_bytes: 2, part_bytes: 2, concurrency: 1 };
    let result = server.store.move_object_with(&source(5), "d", &limits).await;
    assert_eq!(kind(result), ErrorKind::Service);
    let asked = server.asked();
    assert_eq!(asked[3].header("x-amz-copy-source-range"), Some("bytes=0-1"));
    assert_eq!(asked[4].header("x-amz-copy-source-range"), Some("bytes=2-3"));
    assert!(asked[3..5].iter().all(|asked| asked.header("x-amz-copy-source-if-match") == Some(ETAG)));
    assert!(asked[5].line.starts_with("DELETE") && asked[5].line.contains("uploadId=u"), "{}", asked[5].line);
}
