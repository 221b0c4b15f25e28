//! Tests the store with responses that a real server sends only when something fails.

use bytes::Bytes;
use jiff::Timestamp;
use rstest::rstest;

use super::moves::{CopyLimits, ObjectDisposition};
use super::scripted_responses::{Response, ScriptedResponses};
use super::write::{Created, Deleted};
use crate::cost::Requests;
use crate::error::{ErrorKind, Result, chain};
use crate::object::{ObjectRef, ObjectVersion};
use crate::policy::{Purpose, hint};

const ETAG: &str = "\"00000000000000000000000000000001\"";
const OTHER: &str = "\"00000000000000000000000000000002\"";

fn source(size: u64) -> ObjectVersion {
    ObjectVersion::new(ObjectRef::new("b", "uploads/a b.csv"), ETAG.into(), size, Timestamp::UNIX_EPOCH, None)
}

fn body(bytes: &str) -> Response {
    Response::new(200, bytes).with("etag", ETAG)
}

fn rest(bytes: &str) -> Response {
    Response::new(206, bytes).with("etag", ETAG)
}

async fn read_all(server: &ScriptedResponses, source: &ObjectVersion) -> Result<String> {
    let mut text = Vec::new();
    let mut body = server.store.open(source).await?;
    while let Some(chunk) = body.next().await? {
        text.extend_from_slice(&chunk);
    }
    assert_eq!(body.next().await?, None, "a body continued after its end");
    Ok(String::from_utf8(text).unwrap())
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    let error = result.unwrap_err();
    assert!(error.to_string().starts_with("s3://b/"), "the error does not name the object: {error}");
    error.kind()
}

#[tokio::test]
async fn a_body_that_breaks_off_is_resumed_at_its_offset() {
    let server = ScriptedResponses::new(vec![
        body("0123456789").cut_after(4),
        rest("456789").cut_after(0),
        rest("456789").cut_after(5),
        rest("9"),
    ])
    .await;
    assert_eq!(read_all(&server, &source(10)).await.unwrap(), "0123456789");
    let requests = server.requests();
    let ranges: Vec<Option<&str>> = requests.iter().map(|request| request.header("range")).collect();
    assert_eq!(ranges, [None, Some("bytes=4-"), Some("bytes=4-"), Some("bytes=9-")]);
    assert!(requests.iter().all(|request| request.header("if-match") == Some(ETAG)));
}

#[tokio::test]
async fn a_body_is_not_resumed_after_an_overwrite() {
    let server =
        ScriptedResponses::new(vec![body("0123456789").cut_after(4), Response::error(412, "PreconditionFailed")]).await;
    assert_eq!(kind(read_all(&server, &source(10)).await), ErrorKind::SourceChanged);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_body_of_another_version_is_refused_even_when_the_server_ignores_if_match() {
    let server = ScriptedResponses::new(vec![Response::new(200, "0123456789").with("etag", "\"other\"")]).await;
    assert_eq!(kind(read_all(&server, &source(10)).await), ErrorKind::SourceChanged);
}

#[tokio::test]
async fn a_body_without_progress_fails_after_some_attempts() {
    let mut responses = vec![body("0123456789").cut_after(0)];
    responses.extend((0..6).map(|_| body("0123456789").cut_after(0)));
    let server = ScriptedResponses::new(responses).await;
    assert_eq!(kind(read_all(&server, &source(10)).await), ErrorKind::Service);
    assert_eq!(server.requests().len(), 7);
}

#[tokio::test]
async fn a_body_of_the_wrong_length_is_refused() {
    let server = ScriptedResponses::new(vec![body("01234")]).await;
    assert_eq!(kind(read_all(&server, &source(10)).await), ErrorKind::Service);
    // The rest is not requested, as it is after a body that breaks off.
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_body_with_a_wrong_checksum_fails_without_another_request() {
    let server = ScriptedResponses::new(vec![body("0123456789").with("x-amz-checksum-crc32", "AAAAAA==")]).await;
    assert_eq!(kind(read_all(&server, &source(10)).await), ErrorKind::Service);
    assert_eq!(server.requests().len(), 1);
}

#[rstest]
#[case::gone(vec![Response::head(0).status(404), Response::error(404, "NoSuchKey")], ErrorKind::SourceMissing)]
#[case::version_gone(vec![Response::head(0).status(404), Response::error(404, "NoSuchVersion")], ErrorKind::SourceMissing)]
#[case::delete_marker(
    vec![Response::head(0).status(405).with("x-amz-delete-marker", "true")],
    ErrorKind::SourceMissing
)]
#[case::no_bucket(vec![Response::head(0).status(404), Response::error(404, "NoSuchBucket")], ErrorKind::Settings)]
#[case::a_404_without_a_code_is_an_outage(vec![Response::head(0).status(404), Response::new(404, "<html>no</html>")], ErrorKind::Service)]
#[case::throttled_get(vec![Response::head(0).status(404), Response::error(503, "SlowDown")], ErrorKind::Throttled)]
#[case::forbidden(vec![Response::head(0).status(403)], ErrorKind::Forbidden)]
#[case::forbidden_only_for_get(vec![Response::head(0).status(404), Response::error(403, "AccessDenied")], ErrorKind::Forbidden)]
#[case::throttled(vec![Response::head(0).status(503)], ErrorKind::Throttled)]
#[case::broken(vec![Response::head(0).status(500)], ErrorKind::Service)]
#[tokio::test]
async fn head_distinguishes_missing_forbidden_and_broken(
    #[case] responses: Vec<Response>,
    #[case] expected: ErrorKind,
) {
    let server = ScriptedResponses::new(responses).await;
    let result = server.store.head(&ObjectRef::new("b", "k")).await;
    assert_eq!(kind(result), expected);
    server.requests();
}

#[tokio::test]
async fn only_no_such_key_means_that_an_object_is_missing() {
    let server = ScriptedResponses::new(vec![
        Response::error(503, "SlowDown"),
        Response::new(404, ""),
        Response::error(404, "NoSuchBucket"),
        Response::error(404, "NoSuchKey"),
        rest("0"),
        Response::error(416, "InvalidRange"),
        body(""),
    ])
    .await;
    for expected in [ErrorKind::Throttled, ErrorKind::Service, ErrorKind::Settings] {
        assert_eq!(kind(server.store.etag_of("b", "k").await), expected);
    }
    for expected in [None, Some(ETAG), Some(ETAG)] {
        assert_eq!(server.store.etag_of("b", "k").await.unwrap().as_deref(), expected);
    }
    assert!(server.requests()[..5].iter().all(|request| request.header("range") == Some("bytes=0-0")));
}

#[tokio::test]
async fn an_outage_is_not_a_missing_object() {
    let server =
        ScriptedResponses::new(vec![Response::error(503, "SlowDown"), Response::error(404, "NoSuchKey")]).await;
    assert_eq!(kind(server.store.read_small("b", "k", 10).await), ErrorKind::Throttled);
    assert_eq!(server.store.read_small("b", "k", 10).await.unwrap(), None);
}

#[tokio::test]
async fn a_small_object_whose_body_breaks_off_is_read_again() {
    let server = ScriptedResponses::new(vec![body("0123456789").cut_after(3), body("0123456789")]).await;
    let small = server.store.read_small("b", "k", 10).await.unwrap().unwrap();
    assert_eq!((small.bytes.as_ref(), small.etag.as_str()), (b"0123456789".as_slice(), ETAG));
}

#[tokio::test]
async fn a_failed_page_does_not_end_the_listing() {
    let page = |key: &str, next: &str| {
        Response::new(
            200,
            format!(
                "<ListBucketResult><EncodingType>url</EncodingType>{next}\
                 <Contents><Key>{key}</Key><Size>3</Size></Contents></ListBucketResult>"
            ),
        )
    };
    let server = ScriptedResponses::new(vec![
        page("a%2Bb+c", "<NextContinuationToken>t</NextContinuationToken>"),
        Response::error(503, "SlowDown"),
        page("d", ""),
    ])
    .await;
    let mut pages = server.store.list("b", "p/");
    assert_eq!(pages.next().await.unwrap().unwrap()[0].key, "a+b c");
    assert_eq!(kind(pages.next().await), ErrorKind::Throttled);
    assert_eq!(pages.next().await.unwrap().unwrap()[0].key, "d");
    assert_eq!(pages.next().await.unwrap(), None);
    assert!(server.requests()[2].line.contains("continuation-token=t"));
}

#[tokio::test]
async fn a_conditional_write_is_retried_after_a_conflict() {
    let server = ScriptedResponses::new(vec![
        Response::error(409, "ConditionalRequestConflict"),
        Response::error(409, "ConditionalRequestConflict"),
        Response::new(200, "").with("etag", ETAG),
        Response::error(412, "PreconditionFailed"),
        Response::error(503, "SlowDown"),
    ])
    .await;
    let put = async || server.store.put_new("b", "k", Bytes::from_static(b"x"), "text/plain").await;
    assert_eq!(put().await.unwrap(), Created::New { etag: ETAG.into() });
    assert_eq!(put().await.unwrap(), Created::Exists);
    assert_eq!(kind(put().await), ErrorKind::Throttled);
    assert!(server.requests().iter().all(|request| request.header("if-none-match") == Some("*")));
}

#[tokio::test]
async fn a_conditional_delete_has_three_results() {
    let server = ScriptedResponses::new(vec![
        Response::new(204, ""),
        Response::error(404, "NoSuchKey"),
        Response::error(412, "PreconditionFailed"),
        Response::new(404, "<html>"),
    ])
    .await;
    let delete = async || server.store.delete_if("b", "k", ETAG).await;
    assert_eq!(delete().await.unwrap(), Deleted::Done);
    assert_eq!(delete().await.unwrap(), Deleted::Gone);
    assert_eq!(delete().await.unwrap(), Deleted::Changed);
    assert_eq!(kind(delete().await), ErrorKind::Service);
    assert!(server.requests().iter().all(|request| request.header("if-match") == Some(ETAG)));
}

fn head(size: usize) -> Response {
    Response::head(size).with("etag", ETAG).with("content-type", "text/csv").with("x-amz-meta-owner", "ann")
}

fn copy_of(source: &ObjectVersion, size: usize) -> Response {
    head(size).with("x-amz-meta-spillway-source-id", source.id.as_str())
}

fn absent() -> Response {
    Response::head(0).status(404)
}

fn copied() -> Response {
    Response::new(200, format!("<CopyObjectResult><ETag>{ETAG}</ETag></CopyObjectResult>"))
}

#[tokio::test]
async fn a_move_copies_verifies_and_deletes_under_conditions() {
    let source = source(5);
    let responses = vec![head(5), absent(), copied(), copy_of(&source, 5), Response::new(204, "")];
    let server = ScriptedResponses::new(responses).await;
    let moved = server.store.move_object(&source, "processed/a b.csv").await.unwrap();
    assert_eq!((moved.is_copied, moved.source), (true, ObjectDisposition::Deleted));
    assert_eq!(server.methods(), ["HEAD", "HEAD", "PUT", "HEAD", "DELETE"]);
    let requests = server.requests();
    let copy = &requests[2];
    assert_eq!(copy.header("x-amz-copy-source"), Some("b/uploads/a%20b.csv"));
    assert_eq!(copy.header("x-amz-copy-source-if-match"), Some(ETAG));
    assert_eq!(copy.header("if-none-match"), Some("*"));
    assert_eq!(copy.header("content-type"), Some("text/csv"));
    assert_eq!(copy.header("x-amz-meta-owner"), Some("ann"));
    assert_eq!(copy.header("x-amz-meta-spillway-source-id"), Some(source.id.as_str()));
    assert_eq!(requests[4].header("if-match"), Some(ETAG));
}

#[tokio::test]
async fn a_version_is_copied_and_deleted_by_its_id() {
    let mut object = ObjectRef::new("b", "k");
    object.version_id = Some("v/1".into());
    let source = ObjectVersion::new(object, ETAG.into(), 5, Timestamp::UNIX_EPOCH, None);
    let responses = vec![head(5), absent(), copied(), copy_of(&source, 5), Response::new(204, "")];
    let server = ScriptedResponses::new(responses).await;
    server.store.move_object(&source, "d").await.unwrap();
    let requests = server.requests();
    assert!(requests[0].line.contains("versionId=v%2F1"), "{}", requests[0].line);
    assert_eq!(requests[2].header("x-amz-copy-source"), Some("b/k?versionId=v%2F1"));
    assert!(requests[4].line.contains("versionId=v%2F1"), "{}", requests[4].line);
}

#[rstest]
#[case::an_error_with_status_200(Response::error(200, "InternalError"), ErrorKind::Service)]
#[case::slow_down_with_status_200(Response::error(200, "SlowDown"), ErrorKind::Throttled)]
#[case::kms(Response::error(400, "KMS.DisabledException"), ErrorKind::Forbidden)]
#[tokio::test]
async fn a_failed_copy_deletes_nothing(#[case] copy: Response, #[case] expected: ErrorKind) {
    let server = ScriptedResponses::new(vec![head(5), absent(), copy]).await;
    assert_eq!(kind(server.store.move_object(&source(5), "d").await), expected);
    assert_eq!(server.methods(), ["HEAD", "HEAD", "PUT"]);
}

#[tokio::test]
async fn a_source_that_changes_during_the_copy_is_not_deleted() {
    let responses = vec![head(5), absent(), Response::error(412, "PreconditionFailed"), absent()];
    let server = ScriptedResponses::new(responses).await;
    assert_eq!(kind(server.store.move_object(&source(5), "d").await), ErrorKind::SourceChanged);
    assert_eq!(server.methods(), ["HEAD", "HEAD", "PUT", "HEAD"]);
}

#[tokio::test]
async fn a_source_with_a_cached_head_is_moved_with_fewer_requests() {
    let object = ObjectRef::new("b", "uploads/a b.csv");
    let server = ScriptedResponses::new(vec![head(5), copied(), head(5), Response::new(204, "")]).await;
    let source = server.store.head(&object).await.unwrap();
    let moved = server.store.move_object(&source, "d").await.unwrap();
    assert_eq!((moved.is_copied, moved.source), (true, ObjectDisposition::Deleted));
    let requests = server.requests();
    let methods: Vec<&str> = requests.iter().map(|request| request.line.split(' ').next().unwrap()).collect();
    assert_eq!(methods, ["HEAD", "PUT", "HEAD", "DELETE"]);
    assert_eq!(server.store.requests(), Requests { writes: 1.0, reads: 2.0 });
    assert_eq!(requests[1].header("x-amz-copy-source-if-match"), Some(ETAG));
    assert_eq!(requests[1].header("if-none-match"), Some("*"));
}

#[rstest]
#[case::the_destination_is_taken(
    vec![Response::error(412, "PreconditionFailed"), Response::head(4).with("etag", OTHER), Response::head(4).with("etag", OTHER), head(5), Response::head(4).with("etag", OTHER)],
    ErrorKind::DestinationTaken
)]
#[case::the_source_was_overwritten(
    vec![Response::error(412, "PreconditionFailed"), absent(), Response::head(5).with("etag", OTHER), absent()],
    ErrorKind::SourceChanged
)]
#[tokio::test]
async fn a_change_after_the_cached_head_is_detected(#[case] responses: Vec<Response>, #[case] expected: ErrorKind) {
    let server = ScriptedResponses::new([head(5)].into_iter().chain(responses).collect()).await;
    let source = server.store.head(&ObjectRef::new("b", "uploads/a b.csv")).await.unwrap();
    assert_eq!(kind(server.store.move_object(&source, "d").await), expected);
    server.requests();
}

#[tokio::test]
async fn a_copy_whose_response_was_lost_is_recognised() {
    let source = source(5);
    let responses = vec![
        head(5),
        absent(),
        Response::error(412, "PreconditionFailed"),
        copy_of(&source, 5),
        copy_of(&source, 5),
        Response::new(204, ""),
    ];
    let server = ScriptedResponses::new(responses).await;
    assert_eq!(server.store.move_object(&source, "d").await.unwrap().source, ObjectDisposition::Deleted);
    server.requests();
}

#[rstest]
#[case::too_short(copy_of(&source(5), 4))]
#[case::another_content(Response::head(5).with("etag", "\"00000000000000000000000000000002\"").with("x-amz-meta-spillway-source-id", source(5).id.as_str()))]
#[case::another_checksum(copy_of(&source(5), 5).with("x-amz-checksum-type", "FULL_OBJECT").with("x-amz-checksum-crc32", "BBBBBB=="))]
#[tokio::test]
async fn a_copy_that_differs_keeps_the_source(#[case] copy: Response) {
    let original = head(5).with("x-amz-checksum-type", "FULL_OBJECT").with("x-amz-checksum-crc32", "AAAAAA==");
    let server = ScriptedResponses::new(vec![original, absent(), copied(), copy]).await;
    assert_eq!(server.store.move_object(&source(5), "d").await.unwrap_err().kind(), ErrorKind::DestinationTaken);
    assert_eq!(server.methods(), ["HEAD", "HEAD", "PUT", "HEAD"]);
}

#[tokio::test]
async fn an_encrypted_copy_may_have_another_etag() {
    let source = source(5);
    let copy = Response::head(5)
        .with("etag", "\"00000000000000000000000000000002\"")
        .with("x-amz-server-side-encryption", "aws:kms")
        .with("x-amz-meta-spillway-source-id", source.id.as_str());
    let responses = vec![head(5), absent(), copied(), copy, Response::new(204, "")];
    let server = ScriptedResponses::new(responses).await;
    assert_eq!(server.store.move_object(&source, "d").await.unwrap().source, ObjectDisposition::Deleted);
}

#[tokio::test]
async fn a_missing_source_without_a_copy_fails() {
    let server = ScriptedResponses::new(vec![absent(), absent(), Response::error(404, "NoSuchKey")]).await;
    assert_eq!(kind(server.store.move_object(&source(5), "d").await), ErrorKind::SourceMissing);
    server.requests();
}

#[tokio::test]
async fn a_part_copy_that_fails_with_status_200_is_aborted() {
    let started =
        Response::new(200, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>");
    let part = || Response::new(200, format!("<CopyPartResult><ETag>{ETAG}</ETag></CopyPartResult>"));
    let responses =
        vec![head(5), absent(), started, part(), Response::error(200, "InternalError"), Response::new(204, "")];
    let server = ScriptedResponses::new(responses).await;
    let limits = CopyLimits { single_max_bytes: 2, part_bytes: 2, concurrency: 1 };
    let result = server.store.move_object_with(&source(5), "d", &limits).await;
    assert_eq!(kind(result), ErrorKind::Service);
    let requests = server.requests();
    assert_eq!(requests[3].header("x-amz-copy-source-range"), Some("bytes=0-1"));
    assert_eq!(requests[4].header("x-amz-copy-source-range"), Some("bytes=2-3"));
    assert!(requests[3..5].iter().all(|request| request.header("x-amz-copy-source-if-match") == Some(ETAG)));
    assert!(requests[5].line.starts_with("DELETE") && requests[5].line.contains("uploadId=u"), "{}", requests[5].line);
}

/// What a user reads after a failure that the user can correct.
#[rstest]
#[case(
    Response::error(404, "NoSuchBucket"),
    ErrorKind::Settings,
    "the bucket does not exist",
    "check the name of the bucket"
)]
#[case(Response::error(403, "AccessDenied"), ErrorKind::Forbidden, "access is denied: m", "get-caller-identity")]
#[case(Response::error(400, "ExpiredToken"), ErrorKind::Service, "the AWS credentials have expired", "log in again")]
#[case(
    Response::error(403, "InvalidAccessKeyId"),
    ErrorKind::Forbidden,
    "AWS does not know the access key",
    "AWS_ACCESS_KEY_ID"
)]
#[case(
    Response::error(403, "SignatureDoesNotMatch"),
    ErrorKind::Forbidden,
    "the secret access key",
    "AWS_SECRET_ACCESS_KEY"
)]
#[case(Response::error(403, "RequestTimeTooSkewed"), ErrorKind::Service, "the clock of this machine", "set the clock")]
#[case(Response::error(301, "PermanentRedirect").with("x-amz-bucket-region", "eu-west-1"), ErrorKind::Settings,
    "in the region eu-west-1; set AWS_REGION=eu-west-1", "")]
#[case(
    Response::error(400, "AuthorizationHeaderMalformed"),
    ErrorKind::Settings,
    "in another region; set AWS_REGION",
    ""
)]
#[tokio::test]
async fn failure_of_a_request_is_a_sentence_with_advice(
    #[case] response: Response,
    #[case] kind: ErrorKind,
    #[case] what: &str,
    #[case] advice: &str,
) {
    let server = ScriptedResponses::new(vec![response]).await;
    let error = read_all(&server, &source(10)).await.unwrap_err();
    let text = chain(&error);
    assert!(
        error.kind() == kind && text.starts_with("s3://b/uploads/a b.csv: cannot ") && text.contains(what),
        "{text}"
    );
    assert!(!text.contains("service error"), "{text}");
    let hint = hint(&error, Purpose::Load).unwrap_or_default();
    assert!(hint.contains(advice) && hint.is_empty() == advice.is_empty(), "{hint}");
}

#[tokio::test]
async fn bucket_of_another_region_is_named_without_a_body() {
    let server =
        ScriptedResponses::new(vec![Response::head(0).status(301).with("x-amz-bucket-region", "eu-west-1")]).await;
    let error = server.store.head(&ObjectRef::new("b", "a.csv")).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Settings && error.to_string().contains("set AWS_REGION=eu-west-1"), "{error}");
}
