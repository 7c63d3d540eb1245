//! Streams, and what they report however they end.

use std::time::Duration;

use futures_util::StreamExt;
use keybroker_client::{
    GeminiError, TransportKind,
    gemini::{
        GenerateContentStream,
        types::{GenerateContentRequest, GenerateContentResponse},
    },
};
use keybroker_proto::v1::{LeaseReport, advice::Action, lease_report};

use crate::{
    broker::{Grant, MockBroker, words},
    upstream::{Piece, Reply, Upstream, answer_of, error_of, part_of},
};

const MODEL: &str = "gemini-2.5-flash";

fn question() -> GenerateContentRequest {
    GenerateContentRequest::text("Tell a story.")
}

async fn drain(mut stream: GenerateContentStream) -> (String, Option<GeminiError>) {
    let mut text = String::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => text.push_str(&event.text()),
            Err(error) => {
                assert!(stream.next().await.is_none(), "an error is the last item");
                return (text, Some(error));
            }
        }
    }
    (text, None)
}

/// What a broken answer is known to have used: input, output and all tokens.
fn used_so_far(report: &LeaseReport) -> [Option<i64>; 3] {
    match report.outcome.as_ref().expect("a report has an outcome") {
        lease_report::Outcome::TransportError(error) => {
            let usage = error.usage.expect("the report says what is known");
            [usage.input_tokens, usage.output_tokens, usage.total_tokens]
        }
        other => panic!("a transport error, not {other:?}"),
    }
}

#[tokio::test]
async fn a_whole_stream_reports_its_final_usage() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).build().unwrap();
    upstream.will([Reply::Pieces(vec![
        Piece::event(&part_of("Once ")),
        Piece::Bytes("data: ".to_owned()),
        Piece::Bytes(format!("{}\r", part_of("upon "))),
        Piece::Bytes("\n\r".to_owned()),
        Piece::Bytes(format!("\ndata: {}\r\n\r\n", answer_of("a time"))),
    ])]);
    let stream = gemini.stream_generate_content(MODEL, &question()).await.unwrap();
    let (text, error) = drain(stream).await;
    assert_eq!(text, "Once upon a time");
    assert!(error.is_none());
    let reports = mock.script().reports.clone();
    let Some(lease_report::Outcome::Success(success)) = &reports[0].outcome else { panic!("a success") };
    assert_eq!(success.usage.unwrap().total_tokens, Some(9));
    assert_eq!(reports.len(), 1);
}

#[tokio::test]
async fn a_stream_dropped_midway_is_cancelled_with_the_usage_so_far() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).build().unwrap();
    upstream
        .will([Reply::Pieces(vec![Piece::event(&part_of("Once ")), Piece::Pause(Duration::from_secs(60))])]);
    let mut stream = gemini.stream_generate_content(MODEL, &question()).await.unwrap();
    stream.next().await.unwrap().unwrap();
    assert!(mock.script().reports.is_empty());
    drop(stream);
    let reports = mock.reports(1).await;
    assert_eq!(words(&reports), ["cancelled"]);
    assert_eq!(used_so_far(&reports[0]), [Some(7), Some(1), Some(8)]);
}

#[tokio::test]
async fn a_stream_whose_next_event_is_no_longer_awaited_is_cancelled() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).build().unwrap();
    upstream
        .will([Reply::Pieces(vec![Piece::event(&part_of("Once ")), Piece::Pause(Duration::from_secs(60))])]);
    let stream = gemini.stream_generate_content(MODEL, &question()).await.unwrap();
    tokio::time::timeout(Duration::from_millis(100), drain(stream)).await.unwrap_err();
    assert_eq!(words(&mock.reports(1).await), ["cancelled"]);
}

#[tokio::test]
async fn a_stream_dropped_after_its_last_event_is_a_success() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).build().unwrap();
    upstream.will([Reply::Pieces(vec![Piece::event(&answer_of("done"))])]);
    let mut stream = gemini.stream_generate_content(MODEL, &question()).await.unwrap();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    assert_eq!(words(&mock.reports(1).await), ["success"]);
}

#[tokio::test]
async fn an_error_within_the_stream_is_reported_as_one() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).build().unwrap();
    let bare = format!("{}\r\n", error_of(429, "slow down"));
    for (error, status) in [(Piece::event(&error_of(503, "overloaded")), 503), (Piece::Bytes(bare), 429)] {
        upstream.will([Reply::Pieces(vec![Piece::event(&part_of("Once ")), error])]);
        mock.will_advise([(Action::RetryOtherKey, None)]);
        let stream = gemini.stream_generate_content(MODEL, &question()).await.unwrap();
        let (text, error) = drain(stream).await;
        let error = error.unwrap();
        assert_eq!((text.as_str(), error.status()), ("Once ", Some(status)));
        assert!(error.is_retryable(), "the advice comes with the error");
    }
    assert_eq!(words(&mock.script().reports), ["http 503", "http 429"]);
}

#[tokio::test]
async fn a_failure_before_the_first_event_is_failed_over() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).build().unwrap();
    upstream.will([
        Reply::Json(429, error_of(429, "slow down")),
        Reply::Pieces(vec![Piece::event(&error_of(503, "overloaded"))]),
        Reply::Pieces(vec![Piece::event(&answer_of("hello"))]),
    ]);
    mock.will_advise([(Action::RetryOtherKey, None), (Action::RetryOtherKey, None)]);
    let stream = gemini.stream_generate_content(MODEL, &question()).await.unwrap();
    assert_eq!(drain(stream).await.0, "hello");
    assert_eq!(words(&mock.script().reports), ["http 429", "http 503", "success"]);
}

#[tokio::test]
async fn a_stream_cut_by_the_network_is_a_reset() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).build().unwrap();
    upstream.will([
        Reply::Pieces(vec![Piece::event(&part_of("Once ")), Piece::Cut]),
        // The framing ends well, the answer does not.
        Reply::Pieces(vec![Piece::event(&part_of("Once "))]),
        Reply::Pieces(vec![Piece::event(&part_of("Once ")), Piece::Bytes("data: {\"candi".to_owned())]),
    ]);
    for _ in 0..3 {
        let stream = gemini.stream_generate_content(MODEL, &question()).await.unwrap();
        let (text, error) = drain(stream).await;
        assert_eq!(text, "Once ");
        let error = error.unwrap();
        assert!(matches!(error, GeminiError::Transport { kind: TransportKind::Reset, .. }), "{error:?}");
    }
    assert_eq!(words(&mock.script().reports), ["reset", "reset", "reset"]);
}

#[tokio::test]
async fn a_silent_stream_times_out() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).stream_idle_timeout(Duration::from_millis(60)).build().unwrap();
    upstream
        .will([Reply::Pieces(vec![Piece::event(&part_of("Once ")), Piece::Pause(Duration::from_secs(60))])]);
    let stream = gemini.stream_generate_content(MODEL, &question()).await.unwrap();
    let (_, error) = drain(stream).await;
    assert!(matches!(error, Some(GeminiError::Transport { kind: TransportKind::Timeout, .. })));
    assert_eq!(words(&mock.script().reports), ["timeout"]);
}

#[tokio::test]
async fn a_long_stream_keeps_its_lease() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    mock.will_grant([Grant::Lease {
        delay: Duration::ZERO,
        send_within: Duration::from_secs(5),
        expires_in: Duration::from_millis(150),
    }]);
    let gemini = upstream.client(&mock).build().unwrap();
    upstream.will([Reply::Pieces(vec![
        Piece::event(&part_of("Once ")),
        Piece::Pause(Duration::from_millis(300)),
        Piece::event(&answer_of("upon a time")),
    ])]);
    let stream = gemini.stream_generate_content(MODEL, &question()).await.unwrap();
    assert_eq!(drain(stream).await.0, "Once upon a time");
    assert!(!mock.script().renews.is_empty());
}

#[tokio::test]
async fn the_fallback_of_a_stream_is_its_only_event() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let response: GenerateContentResponse = serde_json::from_value(answer_of("from elsewhere")).unwrap();
    let gemini = upstream
        .client(&mock)
        .fallback(move |_, _| std::future::ready(Ok(response.clone())))
        .build()
        .unwrap();
    mock.will_grant([Grant::refused_for(Duration::from_secs(3600))]);
    let stream = gemini.stream_generate_content(MODEL, &question()).await.unwrap();
    assert_eq!(drain(stream).await.0, "from elsewhere");
}
