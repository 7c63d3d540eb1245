package keybroker

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/keybroker/keybroker/client-sdk/go/internal/keybrokerpb"
)

func TestTheCeilingDoublesUpToTheLongest(t *testing.T) {
	tried := backoff{100 * time.Millisecond, 2 * time.Second}
	for retry, expected := range []int64{100, 200, 400, 800, 1600, 2000, 2000} {
		if got := tried.ceiling(retry).Milliseconds(); got != expected {
			t.Errorf("retry %d: %d", retry, got)
		}
	}
	if tried.ceiling(math.MaxInt) != tried.longest {
		t.Error("a late retry waits longer than the longest")
	}
	for range 100 {
		if wait := spread(3 * time.Second); wait < 3*time.Second || wait > 3300*time.Millisecond {
			t.Errorf("a wait of 3 s became %v", wait)
		}
	}
}

func TestEventsAreTheSameHoweverTheyAreCut(t *testing.T) {
	text := "data: {\"a\":1}\r\n\r\n: ping\r\nevent: x\r\ndata:{\r\ndata: }\r\n\r\ndata: 3\n\n{\"error\": {\r\n  \"code\": 503\r\n}}"
	for size := 1; size <= len(text); size++ {
		var decoder sseDecoder
		var events []string
		for rest := []byte(text); len(rest) > 0; {
			piece := rest[:min(size, len(rest))]
			rest = rest[len(piece):]
			decoder.push(piece)
			for event := decoder.next(); event != nil; event = decoder.next() {
				events = append(events, string(event))
			}
		}
		left, stray := decoder.finish()
		if fmt.Sprintf("%q", events) != `["{\"a\":1}" "{\n}" "3"]` || left != nil || string(stray) != "{\"error\": {\n  \"code\": 503\n}}\n" {
			t.Fatalf("pieces of %d: %q, %q, %q", size, events, left, stray)
		}
	}
}

func TestAnUnfinishedEventIsLeftOver(t *testing.T) {
	var decoder sseDecoder
	decoder.push([]byte("data: {\"text\":\"ha"))
	if event := decoder.next(); event != nil {
		t.Errorf("%q", event)
	}
	if event, _ := decoder.finish(); string(event) != "{\"text\":\"ha" {
		t.Errorf("%q", event)
	}
}

func TestEstimates(t *testing.T) {
	for body, expected := range map[string]int64{
		`"four word text here"`: 10,
		`"1234567890"`:          10,
		`"日本語"`:                 5,
		`"a\nb\n"`:              3,
		`""`:                    0,
		`1234567890`:            10,
		`no json`:               0,
		`{"inlineData":{"mimeType":"image/png","data":"AAAA"}}`:                                2240 + 0,
		`{"inlineData":{"mimeType":"image/png","data":"` + strings.Repeat("A", 400000) + `"}}`: 10000,
		`{"fileData":{"fileUri":"https://files.example/1"}}`:                                   2240,
	} {
		if got := EstimateInputTokens([]byte(body)); got != expected {
			t.Errorf("%.40s: %d, not %d", body, got, expected)
		}
	}
}

func TestARequestNamesItsModelInItsPathOrBody(t *testing.T) {
	for _, try := range []struct {
		path, body string
		expected   target
	}{
		{"/v1beta/models/gemini-x:streamGenerateContent", `{}`, target{"gemini-x", "streamGenerateContent", 1}},
		{"/v1/models/embed:batchEmbedContents", `{"requests":[{},{},{}]}`, target{"embed", "batchEmbedContents", 3}},
		{"/v1beta/interactions", `{"model":"models/m"}`, target{"m", "", 1}},
		{"/v1beta/tunedModels/mine:generateContent", `{}`, target{"tunedModels/mine", "generateContent", 1}},
		{"/v1beta/models", `{}`, target{"", "", 1}},
		{"/upload/v1beta/files", `[]`, target{"", "", 1}},
	} {
		if got := targetOf(try.path, parseJSON([]byte(try.body))); got != try.expected {
			t.Errorf("%s: %+v", try.path, got)
		}
	}
	for path, expected := range map[string]bool{"/v1beta/models/x": true, "/upload/v1beta/files": true, "/v1/files/x": true, "/v1alpha/x": true, "/v/x": false, "/healthz": false, "/": false} {
		if isGemini(path) != expected {
			t.Errorf("%s", path)
		}
	}
}

func TestAKeyInAURLIsTakenOut(t *testing.T) {
	for text, expected := range map[string]string{
		"http://h/v1/models/m:generateContent?key=fake&alt=sse": "http://h/v1/models/m:generateContent?alt=sse",
		"http://h/v1/models?key=fake":                           "http://h/v1/models",
		"http://h/v1/models?%6bey=fake&pageToken=key%3D1":       "http://h/v1/models?pageToken=key%3D1",
		"http://h/v1/models?alt=sse":                            "http://h/v1/models?alt=sse",
	} {
		place, _ := url.Parse(text)
		if got := cleanURL(place).String(); got != expected {
			t.Errorf("%s became %s", text, got)
		}
	}
}

func TestAFileIsUsedWithTheProjectThatMadeIt(t *testing.T) {
	var known affinity
	place := func(text string) *url.URL { parsed, _ := url.Parse(text); return parsed }
	made := readEnvelope([]byte(`{"file":{"name":"files/abc","uri":"https://host/v1beta/files/abc"}}`))
	known.learn("team-a", http.Header{}, made)
	known.learn("team-b", http.Header{"X-Goog-Upload-Url": {"https://host/upload/v1beta/files?upload_id=xyz"}}, &envelope{})
	known.learn("team-c", http.Header{}, readEnvelope([]byte(`{"id":"v1_x","status":"completed"}`)))
	known.learn("team-d", http.Header{}, readEnvelope([]byte(`{"name":"models/video/operations/o1"}`)))
	generate := place("https://host/v1beta/models/m:generateContent")
	asks := parseJSON([]byte(`{"contents":[{"parts":[{"fileData":{"fileUri":"https://host/v1beta/files/abc"}}]}]}`))
	for _, try := range []struct {
		place    *url.URL
		body     any
		expected string
	}{
		{generate, asks, "team-a"},
		{place("https://host/v1beta/files/abc"), nil, "team-a"},
		{place("https://host/v1beta/files/other"), nil, ""},
		{place("https://host/upload/v1beta/files?upload_id=xyz"), nil, "team-b"},
		{generate, parseJSON([]byte(`{"contents":[]}`)), ""},
		{place("https://host/v1beta/interactions"), parseJSON([]byte(`{"previous_interaction_id":"v1_x"}`)), "team-c"},
		{place("https://host/v1beta/interactions/v1_x"), nil, "team-c"},
		{place("https://host/v1beta/models/video/operations/o1"), nil, "team-d"},
	} {
		if got := known.projectOf(try.place, try.body); got != try.expected {
			t.Errorf("%s: %q", try.place, got)
		}
	}
	for number := range mostKnown + 5 {
		known.learn("p", http.Header{}, &envelope{Name: fmt.Sprintf("files/%d", number)})
	}
	if known.projects().Len() != mostKnown {
		t.Errorf("%d are remembered", known.projects().Len())
	}
}

func TestWhatIsAnErrorInAnAnswer(t *testing.T) {
	for body, expected := range map[string]int{
		`{"error":{"code":503}}`:                        503,
		` [{"error":{"code":429}},{}]`:                  429,
		`{"error":{"code":"quota_exceeded"}}`:           200,
		`{"error":{"code":9}}`:                          200,
		`{"error":"text"}`:                              0,
		`{"candidates":[],"error":null}`:                0,
		`{"name":"files/1","error":{"code":3}}`:         0,
		`{"id":"v1_x","status":"failed","error":{}}`:    0,
		`[{"candidates":[]},{"error":{"code":503}}]`:    0,
		`{"usageMetadata":{"promptTokenCount":"many"}}`: 0,
		`no json`: 0,
		``:        0,
	} {
		read := readEnvelope([]byte(body))
		got := 0
		if read.isError() {
			got = read.status(200)
		}
		if got != expected {
			t.Errorf("%s: %d", body, got)
		}
	}
	usage := readEnvelope([]byte(`{"usageMetadata":{"promptTokenCount":7,"totalTokenCount":9},"candidates":[{"finishReason":"STOP"}]}`))
	if *usage.usage().InputTokens != 7 || *usage.usage().TotalTokens != 9 || usage.usage().OutputTokens != nil || !usage.isFinished() {
		t.Errorf("%+v", usage)
	}
	if !readEnvelope([]byte(`{"promptFeedback":{"blockReason":"SAFETY"}}`)).isFinished() {
		t.Error("a prompt that is blocked has no more to come")
	}
}

func TestEveryOccurrenceOfTheKeyIsMasked(t *testing.T) {
	if got := redact([]byte("fake-key-1 of api_key:fake-key-1."), "fake-key-1"); string(got) != "[redacted] of api_key:[redacted]." {
		t.Errorf("%s", got)
	}
	if got := redact([]byte("text"), ""); string(got) != "text" {
		t.Errorf("%s", got)
	}
}

func TestALongBodyIsCutBeforeItIsSent(t *testing.T) {
	if got := httpError(500, bytes.Repeat([]byte("x"), mostBody+1), 0).GetHttpError().GetBody(); len(got) != mostBody {
		t.Errorf("%d bytes", len(got))
	}
}

func TestAnUnknownActionIsNotARetry(t *testing.T) {
	advice := adviceOf(&pb.ReportResult{Advice: &pb.Advice{Action: 99}})
	if advice.Action != DoNotRetry || advice.Retryable() {
		t.Errorf("%v", advice)
	}
}

func TestEveryReasonHasItsError(t *testing.T) {
	of := func(code codes.Code, reason string) Error {
		state, err := status.New(code, "the broker's words").WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: errorDomain})
		if err != nil {
			t.Fatal(err)
		}
		known, ok := asError(readStatus(state.Err(), asked{address: "host:1", sent: true}))
		if !ok {
			t.Fatalf("%s is no error of this package", reason)
		}
		return known
	}
	for reason, expected := range map[string]Kind{
		"QUOTA_EXHAUSTED": KindRefused, "COOLING_DOWN": KindRefused, "REQUEST_EXCEEDS_LIMIT": KindNeverPossible,
		"NO_USABLE_KEY": KindNoUsableKey, "INVALID_FIELD": KindInvalidArgument, "UNKNOWN_POOL": KindUnknownPool,
		"UNKNOWN_LEASE_ID": KindUnknownLease, "LEASE_ENDED": KindLeaseEnded, "LEDGER_UNAVAILABLE": KindUnavailable,
		"LEDGER_CHANGED": KindUnavailable, "SHUTTING_DOWN": KindUnavailable, "OVERLOADED": KindUnavailable,
		"DEADLINE_PASSED": KindDeadlineExceeded, "NOT_AUTHENTICATED": KindUnauthenticated, "NOT_PERMITTED": KindNotPermitted,
	} {
		got := of(codes.Unknown, reason)
		if got.Kind() != expected {
			t.Errorf("%s: %v", reason, got)
		}
		if expected == KindUnavailable && !nothingHandedOut(got) {
			t.Errorf("%s says that something was handed out", reason)
		}
	}
	for name := range pb.ErrorReason_value {
		if name != "ERROR_REASON_UNSPECIFIED" && of(codes.Unknown, name).Kind() == KindOther {
			t.Errorf("%s has no error", name)
		}
	}
	for code, expected := range map[codes.Code]Kind{
		codes.ResourceExhausted: KindUnavailable, codes.Unauthenticated: KindUnauthenticated,
		codes.PermissionDenied: KindNotPermitted, codes.DeadlineExceeded: KindDeadlineExceeded,
		codes.Unknown: KindOther, codes.Internal: KindOther, codes.InvalidArgument: KindInvalidArgument,
	} {
		if got, _ := asError(readStatus(status.Error(code, "text"), asked{})); got.Kind() != expected {
			t.Errorf("%v: %v", code, got)
		}
	}
}
