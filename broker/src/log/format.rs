//! Lines that tell of which call they are.

use std::fmt::{self, Write};

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{DefaultFields, Writer},
    },
    registry::LookupSpan,
};

use crate::calls;

/// The fields of a line for people, and after them the call's.
#[derive(Debug, Default)]
pub(super) struct Text(DefaultFields);

impl<'writer> FormatFields<'writer> for Text {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        self.0.format_fields(writer.by_ref(), fields)?;
        match of_call(|name, value| write!(writer, " {name}={value}")) {
            Some(written) => written,
            None => Ok(()),
        }
    }
}

/// An object of JSON a line, in which the call's fields stand beside the time and the level.
#[derive(Debug)]
pub(super) struct Json<F>(pub(super) F);

impl<S, N, F> FormatEvent<S, N> for Json<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // Neither name nor value has anything in it that JSON would have to escape.
        let mut more = String::new();
        of_call(|name, value| write!(more, ",\"{name}\":\"{value}\""));
        if more.is_empty() {
            return self.0.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        match line.trim_end().strip_suffix('}') {
            Some(object) => writeln!(writer, "{object}{more}}}"),
            None => writer.write_str(&line),
        }
    }
}

/// Writes what is known of the call that is served here; none if none is.
fn of_call(mut write: impl FnMut(&str, &dyn fmt::Display) -> fmt::Result) -> Option<fmt::Result> {
    calls::look(|call| {
        if let Some(id) = call.id() {
            write("request_id", &id.as_str())?;
        }
        call.trace_id().map_or(Ok(()), |trace_id| write("trace_id", &trace_id))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::HeaderMap;
    use tracing_subscriber::fmt;

    use super::*;
    use crate::calls::Call;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged<S: Subscriber + Send + Sync>(make: impl FnOnce(Written) -> S) -> Vec<String> {
        let written = Written::default();
        let mut headers = HeaderMap::new();
        headers.insert("x-request-id", "job-17".parse().unwrap());
        headers.insert(
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap(),
        );
        let call = Call::of_http(&headers);
        tracing::subscriber::with_default(make(written.clone()), || {
            calls::at_once(&call, || tracing::info!(pool = "a\"b", "of a call"));
            tracing::info!("of none");
        });
        let written = written.0.lock().unwrap().clone();
        String::from_utf8(written).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_for_people_ends_with_the_call() {
        let lines = logged(|to| {
            fmt().with_ansi(false).with_writer(move || to.clone()).fmt_fields(Text::default()).finish()
        });
        let of_call =
            " of a call pool=\"a\\\"b\" request_id=job-17 trace_id=4bf92f3577b34da6a3ce929d0e0e4736";
        assert!(lines[0].ends_with(of_call), "{lines:?}");
        assert!(lines[1].ends_with(": of none"), "{lines:?}");
    }

    #[test]
    fn a_line_of_json_has_the_call_beside_its_fields() {
        let lines = logged(|to| fmt().with_writer(move || to.clone()).json().map_event_format(Json).finish());
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!((&line["request_id"], &line["fields"]["pool"]), (&"job-17".into(), &"a\"b".into()));
        assert_eq!(line["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        let line: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
        assert!(line.get("request_id").is_none() && line["fields"]["message"] == "of none");
    }
}
