package keybroker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	keybroker "github.com/keybroker/keybroker/client-sdk/go"
	pb "github.com/keybroker/keybroker/client-sdk/go/internal/keybrokerpb"
	"github.com/keybroker/keybroker/client-sdk/go/internal/stage"
)

const prompt = `{"contents":[{"parts":[{"text":"hello there"}]}]}`

// through makes an HTTP client whose requests are leased for.
func through(t testing.TB, transport *keybroker.Transport) *http.Client {
	t.Helper()
	if transport.Base == nil {
		transport.Base = &http.Transport{}
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func post(t testing.TB, client *http.Client, ctx context.Context, url, body string) (*http.Response, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("x-goog-api-key", keybroker.PlaceholderKey)
	return client.Do(request)
}

func read(t testing.TB, response *http.Response) string {
	t.Helper()
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// scene is a broker of this file's own that notes the reports, a Gemini that answers as told, and a client between.
type scene struct {
	broker    *server
	client    *keybroker.Client
	transport *keybroker.Transport
	http      *http.Client
	url       string
}

func set(t testing.TB, gemini http.HandlerFunc) *scene {
	t.Helper()
	broker := &server{}
	client := connect(t, startServer(t, broker))
	serving := httptest.NewServer(gemini)
	t.Cleanup(serving.Close)
	transport := &keybroker.Transport{Client: client}
	return &scene{broker, client, transport, through(t, transport), serving.URL}
}

func (s *scene) reports(t testing.TB) []*pb.LeaseReport {
	t.Helper()
	flush(t, s.client)
	s.broker.mu.Lock()
	defer s.broker.mu.Unlock()
	return s.broker.reports
}

func (s *scene) only(t testing.TB) *pb.LeaseReport {
	t.Helper()
	reports := s.reports(t)
	if len(reports) != 1 {
		t.Fatalf("there are %d reports: %v", len(reports), reports)
	}
	return reports[0]
}

const (
	generate = "/v1beta/models/gemini-2.5-flash:generateContent"
	stream   = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
)

func TestARequestIsSentWithALeasedKey(t *testing.T) {
	s := set(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if keys := r.Header.Values("x-goog-api-key"); len(keys) != 1 || keys[0] != "fake-key-1" || r.URL.RawQuery != "" || string(body) != prompt || r.Header.Get("Authorization") != "" || r.ContentLength != int64(len(prompt)) {
			t.Errorf("the request came with the headers %v, the query %q and the body %s", r.Header, r.URL.RawQuery, body)
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":3,"totalTokenCount":12,"thoughtsTokenCount":2,"cachedContentTokenCount":1}}`)
	})
	response, err := post(t, s.http, t.Context(), s.url+generate+"?key=fake-key-in-url", prompt)
	if err != nil {
		t.Fatal(err)
	}
	if text := read(t, response); response.StatusCode != 200 || !strings.Contains(text, "STOP") {
		t.Errorf("%s: %s", response.Status, text)
	}
	if strings.Contains(fmt.Sprint(response.Request.Header), "fake-key-1") {
		t.Error("the caller finds the key in his request")
	}
	report := s.only(t)
	usage := report.GetSuccess().GetUsage()
	if usage.GetInputTokens() != 7 || usage.GetOutputTokens() != 3 || usage.GetTotalTokens() != 12 || usage.GetThoughtsTokens() != 2 || usage.GetCachedTokens() != 1 || report.GetLatency().AsDuration() <= 0 {
		t.Errorf("the report is %v", report)
	}
}

func TestWhatIsNoRequestToGeminiGetsNoKey(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%q", r.Header.Values("x-goog-api-key"))
	}))
	defer other.Close()
	s := set(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1beta/files") {
			http.Redirect(w, r, other.URL+"/v1beta/elsewhere", http.StatusTemporaryRedirect)
			return
		}
		fmt.Fprintf(w, "%q", r.Header.Values("x-goog-api-key"))
	})
	for _, path := range []string{"/healthz", "/v1beta/files/x:download"} {
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
		request.Header.Set("x-goog-api-key", keybroker.PlaceholderKey)
		response, err := s.http.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if text := read(t, response); text != "[]" {
			t.Errorf("%s was sent with %s", path, text)
		}
	}
	flush(t, s.client)
}

func TestAKeyThatComesBackIsMasked(t *testing.T) {
	s := set(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(403)
		io.WriteString(w, `{"error":{"code":403,"message":"Consumer 'api_key:fake-key-1' has been suspended."}}`)
	})
	response, err := post(t, s.http, t.Context(), s.url+generate, prompt)
	if err != nil {
		t.Fatal(err)
	}
	if text := read(t, response); response.StatusCode != 403 || strings.Contains(text, "fake-key-1") || !strings.Contains(text, "[redacted]") {
		t.Errorf("%s", text)
	}
	failed := s.only(t).GetHttpError()
	if failed.GetStatus() != 403 || strings.Contains(string(failed.GetBody()), "fake-key-1") || failed.GetRetryAfter().AsDuration() != 7*time.Second {
		t.Errorf("the report is %v", failed)
	}
}

func TestTheAdviceIsObeyed(t *testing.T) {
	var calls atomic.Int32
	s := set(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if string(body) != prompt {
			t.Errorf("the body is %q", body)
		}
		if calls.Add(1) <= 2 {
			w.WriteHeader(503)
			return
		}
		io.WriteString(w, `{}`)
	})
	advise := []*pb.Advice{{Action: pb.Advice_RETRY_OTHER_KEY}, {Action: pb.Advice_RETRY_AFTER}, {Action: pb.Advice_DONE}}
	s.broker.report = func(request *pb.ReportRequest) (*pb.ReportResponse, error) {
		s.broker.mu.Lock()
		defer s.broker.mu.Unlock()
		response := &pb.ReportResponse{}
		for range request.GetReports() {
			response.Results = append(response.Results, &pb.ReportResult{Advice: advise[0]})
			advise = advise[1:]
		}
		return response, nil
	}
	response, err := post(t, s.http, t.Context(), s.url+generate, prompt)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != 200 || calls.Load() != 3 || s.broker.calls("acquire") != 3 {
		t.Errorf("%s after %d calls", response.Status, calls.Load())
	}
	flush(t, s.client)
}

func TestOnlyOneMoreTryIsOne(t *testing.T) {
	var calls atomic.Int32
	s := set(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		http.Error(w, "no", 500)
	})
	always := func(advice *pb.Advice) {
		s.broker.report = func(request *pb.ReportRequest) (*pb.ReportResponse, error) {
			return &pb.ReportResponse{Results: []*pb.ReportResult{{Advice: advice}}}, nil
		}
	}
	for _, try := range []struct {
		advice   *pb.Advice
		attempts int
		expected int32
	}{
		{&pb.Advice{Action: pb.Advice_RETRY_OTHER_KEY, Once: true}, 8, 2},
		{&pb.Advice{Action: pb.Advice_RETRY_OTHER_KEY}, 3, 3},
		{&pb.Advice{Action: pb.Advice_DO_NOT_RETRY}, 8, 1},
		{&pb.Advice{Action: 99}, 8, 1},
	} {
		calls.Store(0)
		always(try.advice)
		s.transport.Attempts = try.attempts
		response, err := post(t, s.http, t.Context(), s.url+generate, prompt)
		if err != nil {
			t.Fatal(err)
		}
		if text := read(t, response); response.StatusCode != 500 || text != "no\n" || calls.Load() != try.expected {
			t.Errorf("%v: %s after %d calls", try.advice, response.Status, calls.Load())
		}
	}
}

func TestAnErrorIn200IsAnError(t *testing.T) {
	s := set(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "stream") {
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, "data: {\"error\":{\"code\":429,\"message\":\"no\"}}\n\n")
			return
		}
		io.WriteString(w, `[{"error":{"code":503,"message":"no"}}]`)
	})
	for path, expected := range map[string]int32{generate: 503, stream: 429} {
		response, err := post(t, s.http, t.Context(), s.url+path, prompt)
		if err != nil {
			t.Fatal(err)
		}
		if text := read(t, response); !strings.Contains(text, "error") {
			t.Errorf("%s", text)
		}
		reports := s.reports(t)
		if got := reports[len(reports)-1].GetHttpError().GetStatus(); got != expected {
			t.Errorf("%s was reported as %d", path, got)
		}
	}
}

// sse answers with these events, and then waits for more.
func sse(more <-chan struct{}, events ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, event := range events {
			io.WriteString(w, "data: "+event+"\r\n\r\n")
			w.(http.Flusher).Flush()
		}
		if more != nil {
			select {
			case <-more:
			case <-r.Context().Done():
			}
		}
	}
}

const (
	someEvent = `{"candidates":[{"content":{}}],"usageMetadata":{"promptTokenCount":5}}`
	lastEvent = `{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":5,"totalTokenCount":9}}`
)

func TestAStreamIsReportedHoweverItEnds(t *testing.T) {
	more := make(chan struct{})
	defer close(more)
	for name, try := range map[string]struct {
		gemini http.HandlerFunc
		leave  func(*testing.T, *http.Response, context.CancelFunc)
		check  func(*pb.LeaseReport) bool
	}{
		"to its end": {
			sse(nil, someEvent, lastEvent),
			func(t *testing.T, response *http.Response, _ context.CancelFunc) {
				if text, err := io.ReadAll(response.Body); err != nil || !strings.Contains(string(text), "STOP") {
					t.Errorf("%s: %v", text, err)
				}
			},
			func(report *pb.LeaseReport) bool { return report.GetSuccess().GetUsage().GetTotalTokens() == 9 },
		},
		"cut": {
			sse(nil, someEvent),
			func(t *testing.T, response *http.Response, _ context.CancelFunc) {
				if _, err := io.ReadAll(response.Body); !errors.Is(err, keybroker.ErrTransport) || !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("a cut gave %v", err)
				}
			},
			func(report *pb.LeaseReport) bool {
				failed := report.GetTransportError()
				return failed.GetKind() == pb.TransportError_RESET && failed.GetUsage().GetInputTokens() == 5
			},
		},
		"left": {
			sse(more, someEvent),
			func(*testing.T, *http.Response, context.CancelFunc) {},
			func(report *pb.LeaseReport) bool {
				failed := report.GetTransportError()
				return failed.GetKind() == pb.TransportError_CANCELLED && failed.GetUsage().GetInputTokens() == 5
			},
		},
		"left at the finish reason": {
			sse(more, someEvent, lastEvent),
			func(t *testing.T, response *http.Response, _ context.CancelFunc) {
				// Whoever leaves has read the event to its end; more is on its way.
				text := ""
				for buffer := make([]byte, 16); !strings.HasSuffix(text, lastEvent+"\r\n\r\n"); {
					count, err := response.Body.Read(buffer)
					if text += string(buffer[:count]); err != nil {
						t.Fatal(err)
					}
				}
			},
			func(report *pb.LeaseReport) bool { return report.GetSuccess().GetUsage().GetTotalTokens() == 9 },
		},
		"called off while read": {
			sse(more, someEvent),
			func(t *testing.T, response *http.Response, cancel context.CancelFunc) {
				time.AfterFunc(50*time.Millisecond, cancel)
				if _, err := io.ReadAll(response.Body); !errors.Is(err, context.Canceled) {
					t.Errorf("it gave %v", err)
				}
			},
			func(report *pb.LeaseReport) bool {
				return report.GetTransportError().GetKind() == pb.TransportError_CANCELLED
			},
		},
		"an error in it": {
			sse(more, someEvent, `{"error":{"code":503}}`),
			func(t *testing.T, response *http.Response, _ context.CancelFunc) {
				text := ""
				for buffer := make([]byte, 16); !strings.Contains(text, "503"); {
					count, err := response.Body.Read(buffer)
					if text += string(buffer[:count]); err != nil {
						t.Fatal(err)
					}
				}
			},
			func(report *pb.LeaseReport) bool { return report.GetHttpError().GetStatus() == 503 },
		},
		"a prompt that is blocked": {
			sse(nil, `{"promptFeedback":{"blockReason":"SAFETY"}}`),
			func(t *testing.T, response *http.Response, _ context.CancelFunc) {
				if _, err := io.ReadAll(response.Body); err != nil {
					t.Error(err)
				}
			},
			func(report *pb.LeaseReport) bool { return report.GetSuccess() != nil },
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := set(t, try.gemini)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			response, err := post(t, s.http, ctx, s.url+stream, prompt)
			if err != nil {
				t.Fatal(err)
			}
			try.leave(t, response, cancel)
			response.Body.Close()
			if report := s.only(t); !try.check(report) {
				t.Errorf("the report is %v", report)
			}
			if _, err := response.Body.Read(make([]byte, 1)); err == nil {
				t.Error("a closed body can be read")
			}
		})
	}
}

func TestAContextThatEndsReportsAStreamThatNobodyReads(t *testing.T) {
	more := make(chan struct{})
	defer close(more)
	s := set(t, sse(more, someEvent))
	ctx, cancel := context.WithCancel(t.Context())
	response, err := post(t, s.http, ctx, s.url+stream, prompt)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	cancel()
	for range 100 {
		if len(s.reports(t)) > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if failed := s.only(t).GetTransportError(); failed.GetKind() != pb.TransportError_CANCELLED {
		t.Errorf("the report is %v", failed)
	}
}

func TestAnArrayIsAStreamToo(t *testing.T) {
	s := set(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, "["+someEvent+",\r\n"+lastEvent+"]")
	})
	response, err := post(t, s.http, t.Context(), s.url+strings.TrimSuffix(stream, "?alt=sse"), prompt)
	if err != nil {
		t.Fatal(err)
	}
	read(t, response)
	if report := s.only(t); report.GetSuccess().GetUsage().GetTotalTokens() != 9 {
		t.Errorf("the report is %v", report)
	}
}

func TestTheContentOfAFileIsPassedOn(t *testing.T) {
	const content = `{"error":{"code":503,"message":"it is what the file says"}}`
	s := set(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, content)
	})
	for range 2 {
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/v1beta/files/x:download?alt=media", nil)
		response, err := s.http.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if text := read(t, response); text != content {
			t.Errorf("%s", text)
		}
	}
	for _, report := range s.reports(t) {
		if report.GetSuccess() == nil {
			t.Errorf("the report is %v", report)
		}
	}
}

func TestTimesThatRunOut(t *testing.T) {
	hang := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}
	t.Run("no answer", func(t *testing.T) {
		s := set(t, hang)
		s.transport.RequestTimeout = 100 * time.Millisecond
		_, err := post(t, s.http, t.Context(), s.url+generate, prompt)
		failed, ok := errors.AsType[*keybroker.TransportError](err)
		if !ok || failed.What != keybroker.Timeout || s.only(t).GetTransportError().GetKind() != pb.TransportError_TIMEOUT {
			t.Errorf("it gave %v", err)
		}
	})
	t.Run("the caller's deadline", func(t *testing.T) {
		s := set(t, hang)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := post(t, s.http, ctx, s.url+generate, prompt)
		if !errors.Is(err, context.DeadlineExceeded) || s.only(t).GetTransportError().GetKind() != pb.TransportError_TIMEOUT {
			t.Errorf("it gave %v", err)
		}
	})
	t.Run("the caller gives up", func(t *testing.T) {
		s := set(t, hang)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		_, err := post(t, s.http, ctx, s.url+generate, prompt)
		if !errors.Is(err, context.Canceled) || s.only(t).GetTransportError().GetKind() != pb.TransportError_CANCELLED {
			t.Errorf("it gave %v", err)
		}
	})
	t.Run("a stream that pauses", func(t *testing.T) {
		more := make(chan struct{})
		defer close(more)
		s := set(t, sse(more, someEvent))
		s.transport.IdleTimeout = 100 * time.Millisecond
		response, err := post(t, s.http, t.Context(), s.url+stream, prompt)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		_, err = io.ReadAll(response.Body)
		failed, ok := errors.AsType[*keybroker.TransportError](err)
		if !ok || failed.What != keybroker.Timeout || s.only(t).GetTransportError().GetKind() != pb.TransportError_TIMEOUT {
			t.Errorf("it gave %v", err)
		}
	})
}

func TestAGeminiThatIsDown(t *testing.T) {
	s := set(t, nil)
	_, err := post(t, s.http, t.Context(), "http://"+closedPort(t)+generate, prompt)
	failed, ok := errors.AsType[*keybroker.TransportError](err)
	if !ok || failed.What != keybroker.Connect || s.only(t).GetTransportError().GetKind() != pb.TransportError_CONNECT {
		t.Errorf("it gave %v", err)
	}
}

// slowDial delays what is sent until its lease is too old.
type slowDial struct{ waits atomic.Int32 }

func (s *slowDial) RoundTrip(request *http.Request) (*http.Response, error) {
	if s.waits.Add(-1) >= 0 {
		time.Sleep(400 * time.Millisecond)
	}
	return http.DefaultTransport.RoundTrip(request)
}

func TestWhatIsTooLateIsNotSent(t *testing.T) {
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	var calls atomic.Int32
	s := set(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err == nil {
			calls.Add(1)
		}
		io.WriteString(w, `{}`)
	})
	s.broker.acquire = func(context.Context) (*pb.AcquireResponse, error) {
		lease := grant()
		lease.LeaseId = fmt.Sprint(s.broker.calls("acquire"))
		lease.SendWithin.Seconds, lease.SendWithin.Nanos = 0, 200_000_000
		return &pb.AcquireResponse{Lease: lease}, nil
	}
	slow := &slowDial{}
	slow.waits.Store(2)
	s.transport.Base = slow
	response, err := post(t, s.http, t.Context(), s.url+generate, prompt)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	reports := s.reports(t)
	slices.SortFunc(reports, func(a, b *pb.LeaseReport) int { return strings.Compare(a.GetLeaseId(), b.GetLeaseId()) })
	if calls.Load() != 1 || len(reports) != 3 || reports[0].GetNotSent() == nil || reports[1].GetNotSent() == nil || reports[2].GetSuccess() == nil {
		t.Errorf("%d calls, and the reports %v", calls.Load(), reports)
	}
	slow.waits.Store(100)
	s.transport.Attempts = 2
	if _, err := post(t, s.http, t.Context(), s.url+generate, prompt); !errors.Is(err, keybroker.ErrSendWindowPassed) {
		t.Errorf("it gave %v", err)
	}
	flush(t, s.client)
}

func TestTheFallback(t *testing.T) {
	s := set(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("x-goog-api-key")) })
	s.transport.Client = connect(t, closedPort(t))
	s.transport.Deadline = time.Nanosecond
	own := errors.New("the caller's own")
	s.transport.Fallback = func(_ context.Context, request *http.Request, err error) (string, error) {
		if !errors.Is(err, keybroker.ErrUnavailable) {
			t.Errorf("the fallback was called with %v", err)
		}
		if strings.Contains(request.URL.Path, "stream") {
			return "", own
		}
		return "fake-key-of-the-caller", nil
	}
	response, err := post(t, s.http, t.Context(), s.url+generate, prompt)
	if err != nil {
		t.Fatal(err)
	}
	if text := read(t, response); text != "fake-key-of-the-caller" {
		t.Errorf("it was sent with %s", text)
	}
	if _, err := post(t, s.http, t.Context(), s.url+stream, prompt); !errors.Is(err, own) {
		t.Errorf("it gave %v", err)
	}
}

func TestTheCacheAnswersIdenticalRequests(t *testing.T) {
	var calls atomic.Int32
	s := set(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			w.WriteHeader(500)
		}
		io.WriteString(w, `{"candidates":[{"finishReason":"STOP"}]}`)
	})
	s.transport.Cache = keybroker.NewResponseCache(10, 300*time.Millisecond)
	ask := func(body string) {
		response, err := post(t, s.http, t.Context(), s.url+generate, body)
		if err != nil {
			t.Fatal(err)
		}
		if text := read(t, response); !strings.Contains(text, "STOP") {
			t.Errorf("%s", text)
		}
	}
	for step, expected := range []int32{1, 2, 2, 2} {
		if ask(prompt); calls.Load() != expected {
			t.Errorf("step %d: %d calls", step, calls.Load())
		}
	}
	if ask(`{"contents":[]}`); calls.Load() != 3 {
		t.Errorf("another body: %d calls", calls.Load())
	}
	time.Sleep(400 * time.Millisecond)
	if ask(prompt); calls.Load() != 4 {
		t.Errorf("after its time: %d calls", calls.Load())
	}
	flush(t, s.client)
}

func TestFilesStayWithTheirProject(t *testing.T) {
	var mu sync.Mutex
	var asked []*pb.AcquireRequest
	s := set(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Query().Get("upload_id") != "":
			io.WriteString(w, `{"file":{"name":"files/abc","uri":"https://host/v1beta/files/abc"}}`)
		case strings.HasPrefix(r.URL.Path, "/upload/"):
			w.Header().Set("X-Goog-Upload-Url", "http://"+r.Host+"/upload/v1beta/files?upload_id=u1")
		default:
			io.WriteString(w, `{"candidates":[{"finishReason":"STOP"}]}`)
		}
	})
	s.broker.asked = func(request *pb.AcquireRequest) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, request)
	}
	s.transport.FilesModel = "gemini-files"
	for _, call := range []struct{ path, body, model, project string }{
		{"/upload/v1beta/files", `{}`, "gemini-files", ""},
		{"/upload/v1beta/files?upload_id=u1", "content", "gemini-files", "project-1"},
		{generate, `{"contents":[{"parts":[{"fileData":{"fileUri":"https://host/v1beta/files/abc"}}]}]}`, model, "project-1"},
		{generate, prompt, model, ""},
	} {
		response, err := post(t, s.http, t.Context(), s.url+call.path, call.body)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		mu.Lock()
		last := asked[len(asked)-1]
		mu.Unlock()
		if last.GetModel() != call.model || last.GetConstraints().GetProject() != call.project {
			t.Errorf("%s was leased for with %v", call.path, last)
		}
	}
	flush(t, s.client)
}

func TestWhatLeasesAreAskedWith(t *testing.T) {
	var last atomic.Pointer[pb.AcquireRequest]
	s := set(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ":countTokens") {
			body, _ := io.ReadAll(r.Body)
			if !strings.Contains(string(body), `"generateContentRequest"`) {
				t.Errorf("countTokens was asked with %s", body)
			}
			io.WriteString(w, `{"totalTokens":4242}`)
			return
		}
		io.WriteString(w, `{}`)
	})
	s.broker.asked = func(request *pb.AcquireRequest) { last.Store(request) }
	s.transport.Deadline = 10 * time.Second
	s.transport.Request = keybroker.Request{
		Pool: "p", Consumer: "c", TTL: 5 * time.Second, Tier: keybroker.PaidTier, ExcludeKeys: []string{"k"},
		ExcludeProjects: []string{"x"}, KeyLabels: map[string]string{"region": "eu"}, Labels: map[string]string{"a": "b"}, OutputTokens: 9,
	}
	ask := func(path, body string) *pb.AcquireRequest {
		response, err := post(t, s.http, t.Context(), s.url+path, body)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return last.Load()
	}
	got := ask(generate, prompt)
	constraints := got.GetConstraints()
	wait := got.GetWait().AsDuration()
	if got.GetPool() != "p" || got.GetConsumer() != "c" || got.GetTtl().AsDuration() != 5*time.Second || got.GetOutputTokens() != 9 ||
		got.GetLabels()["a"] != "b" || constraints.GetTier() != pb.Tier_TIER_PAID || constraints.GetExcludeKeyIds()[0] != "k" ||
		constraints.GetExcludeProjects()[0] != "x" || constraints.GetLabels()["region"] != "eu" ||
		got.GetInputTokens() != keybroker.EstimateInputTokens([]byte(prompt)) || wait <= 9*time.Second || wait > 10*time.Second {
		t.Errorf("it was asked with %v", got)
	}
	if got := ask("/v1beta/models/embed:batchEmbedContents", `{"requests":[{},{},{}]}`); got.GetPermits() != 3 || got.GetModel() != "embed" {
		t.Errorf("a batch was asked with %v", got)
	}
	s.transport.Estimator = func(name string, body []byte) int64 {
		if name != model || string(body) != prompt {
			t.Errorf("the estimator was asked about %s, %s", name, body)
		}
		return 77
	}
	if got := ask(generate, prompt); got.GetInputTokens() != 77 {
		t.Errorf("it was asked with %v", got)
	}
	s.transport.Estimator = nil
	s.transport.CountTokens = true
	s.transport.Request.Wait = -1
	if got := ask(generate, prompt); got.GetInputTokens() != 4242 || got.GetWait() != nil {
		t.Errorf("it was asked with %v", got)
	}
	flush(t, s.client)
}

func TestABadReportTakesNoOthersWithIt(t *testing.T) {
	s := set(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{}`) })
	var largest atomic.Int32
	slow := make(chan struct{})
	s.broker.report = func(request *pb.ReportRequest) (*pb.ReportResponse, error) {
		<-slow
		reports := request.GetReports()
		largest.Store(max(largest.Load(), int32(len(reports))))
		response := &pb.ReportResponse{}
		for _, report := range reports {
			if report.GetLeaseId() == "bad" {
				return nil, errors.New("this one is bad")
			}
			response.Results = append(response.Results, &pb.ReportResult{Advice: &pb.Advice{Action: pb.Advice_DONE}})
		}
		return response, nil
	}
	var granted atomic.Int32
	s.broker.acquire = func(context.Context) (*pb.AcquireResponse, error) {
		lease := grant()
		if granted.Add(1) == 300 {
			lease.LeaseId = "bad"
		}
		return &pb.AcquireResponse{Lease: lease}, nil
	}
	for range 500 {
		lease, err := s.client.Acquire(t.Context(), keybroker.Request{Model: model})
		if err != nil {
			t.Fatal(err)
		}
		lease.Close()
	}
	close(slow)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.client.Flush(ctx); err != nil || s.client.ReportsLost() != 1 || largest.Load() != 256 {
		t.Errorf("%v, %d lost, the largest batch %d", err, s.client.ReportsLost(), largest.Load())
	}
}

func TestHTTP2(t *testing.T) {
	broker := &server{}
	client := connect(t, startServer(t, broker))
	serving := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.ProtoMajor != 2 || string(body) != prompt || r.Header.Get("x-goog-api-key") != "fake-key-1" {
			t.Errorf("it came by %s with %s", r.Proto, body)
		}
		sse(nil, someEvent, lastEvent)(w, r)
	}))
	serving.EnableHTTP2 = true
	serving.StartTLS()
	defer serving.Close()
	web := through(t, &keybroker.Transport{Client: client, Base: serving.Client().Transport})
	for range 3 {
		response, err := post(t, web, t.Context(), serving.URL+stream, prompt)
		if err != nil {
			t.Fatal(err)
		}
		if text := read(t, response); !strings.Contains(text, "STOP") {
			t.Errorf("%s", text)
		}
	}
	flush(t, client)
	broker.mu.Lock()
	defer broker.mu.Unlock()
	for _, report := range broker.reports {
		if report.GetSuccess() == nil {
			t.Errorf("the report is %v", report)
		}
	}
}

func TestManyWorkersKeepTheQuota(t *testing.T) {
	const projects, perMinute, workers = 5, 60, 200
	broker := stage.StartBroker(t, stage.Config(projects, fmt.Sprintf("requests_per_minute = %d, in_flight = 20", perMinute), ""), "")
	gemini := stage.StartGemini(t, projects, "--rpm", fmt.Sprint(perMinute))
	client := connect(t, broker.Address)
	web := through(t, &keybroker.Transport{Client: client, Deadline: 4 * time.Second, Base: &http.Transport{MaxIdleConnsPerHost: workers}})
	var answered, refused atomic.Int32
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for range 3 {
				response, err := post(t, web, t.Context(), gemini.URL+generate, prompt)
				switch {
				case errors.Is(err, keybroker.ErrRefused):
					refused.Add(1)
				case err != nil:
					t.Error(err)
				case response.StatusCode != 200:
					t.Error(response.Status)
				default:
					answered.Add(1)
				}
				if err == nil {
					read(t, response)
				}
			}
		})
	}
	all.Wait()
	flush(t, client)
	if verdict := gemini.Verdict(); verdict.QuotaRefusals != 0 || answered.Load() != projects*perMinute || answered.Load()+refused.Load() != 3*workers {
		t.Errorf("%d answered, %d refused, and the fake saw %+v", answered.Load(), refused.Load(), verdict)
	}
}

func TestAgainstTheFakeGemini(t *testing.T) {
	broker := stage.StartBroker(t, stage.Config(4, "requests_per_minute = 100, in_flight = 10", ""), "")
	gemini := stage.StartGemini(t, 4)
	client := connect(t, broker.Address)
	web := through(t, &keybroker.Transport{Client: client})
	for _, rule := range []string{
		`{"count":1,"fault":{"kind":"error","name":"suspended"}}`,
		`{"count":1,"fault":{"kind":"reset"}}`,
		`{"count":1,"match":{"method":"streamGenerateContent"},"fault":{"kind":"in_stream_error","name":"opaque_429"}}`,
	} {
		gemini.Fault(rule)
		for _, path := range []string{generate, stream} {
			response, err := post(t, web, t.Context(), gemini.URL+path, prompt)
			if err != nil {
				t.Fatalf("%s: %v", rule, err)
			}
			if text := read(t, response); !strings.Contains(text, "echo") || strings.Contains(text, "fake-key-") {
				t.Errorf("%s: %s", rule, text)
			}
		}
	}
	flush(t, client)
	if verdict := gemini.Verdict(); verdict.KeysInURL != 0 || verdict.QuotaRefusals != 0 || verdict.Calls < 6 {
		t.Errorf("the fake saw %+v", verdict)
	}
}
