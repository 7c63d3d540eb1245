package keybroker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// mostErrorBody is how much of an error answer is read, in bytes.
const mostErrorBody = 8 << 20

var (
	errNoAnswer = errors.New("no complete answer in time")
	errIdle     = errors.New("the stream paused for too long")
)

// failure is a request that brought no answer to give.
type failure struct {
	// missed is set if nothing was sent, since it had become too late for it.
	missed error
	// reported is the report of it, for the advice.
	reported *item
	// err is what the caller sees if this was the last try.
	err error
	// final is whether the caller gave up, so that there is nothing to try again.
	final bool
}

// exchange is one request with one lease.
type exchange struct {
	*call
	lease *Lease
	key   string
	ctx   context.Context
	end   context.CancelCauseFunc
	watch departure
}

// departure watches when a request leaves. Google counts it when it arrives, and a new connection can take seconds; so
// the window is looked at once more when there is a connection to send it on.
type departure struct {
	sendBy    time.Time
	connected atomic.Bool
	started   atomic.Bool
	lateBy    atomic.Int64
}

// timelyBody refuses to be sent when it is too late.
type timelyBody struct {
	bytes.Reader
	watch  *departure
	looked bool
}

func (b *timelyBody) Read(into []byte) (int, error) {
	if !b.looked {
		b.looked = true
		if late := time.Since(b.watch.sendBy); late > 0 {
			b.watch.lateBy.Store(int64(late))
			return 0, &SendWindowPassedError{late}
		}
		b.watch.started.Store(true)
	}
	return b.Reader.Read(into)
}

// WriteTo hides that of the reader inside, which would pass the watch by.
func (b *timelyBody) WriteTo(into io.Writer) (int64, error) {
	return io.Copy(into, struct{ io.Reader }{b})
}

func (b *timelyBody) Close() error { return nil }

// send sends one request, and reports its lease unless it was missed.
func (c *call) send(lease *Lease, key string) (*http.Response, *failure) {
	made := &exchange{call: c, lease: lease, key: key}
	made.watch.sendBy = lease.state.sendBy
	made.ctx, made.end = context.WithCancelCause(c.ctx)
	// Started before sending: a slow answer must not outlive its lease.
	lease.AutoRenew(c.lease.TTL)
	response, failure := made.run()
	if failure != nil {
		made.end(nil)
	}
	return response, failure
}

func (x *exchange) run() (*http.Response, *failure) {
	timer := time.AfterFunc(orDefault(x.transport.RequestTimeout, defaultTimeout), func() { x.end(errNoAnswer) })
	defer timer.Stop()
	traced := httptrace.WithClientTrace(x.ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { x.watch.connected.Store(true) },
	})
	request := x.outgoing(traced, x.key, func() (io.ReadCloser, error) {
		body := &timelyBody{watch: &x.watch}
		body.Reset(x.body)
		return body, nil
	})
	response, err := x.transport.base().RoundTrip(request)
	if err != nil {
		return nil, x.unanswered(err)
	}
	// The caller must not find the key in the request that the answer belongs to.
	response.Request = x.original
	good := response.StatusCode >= 200 && response.StatusCode < 300
	if form := x.form(response); good && form != whole {
		return x.stream(response, form)
	}
	return x.read(response, good)
}

// form is how an answer comes.
type form int

const (
	// whole is read at once.
	whole form = iota
	// events are server-sent.
	events
	// array is one JSON array whose members come one by one.
	array
	// opaque is anything else, such as the content of a file.
	opaque
)

func (x *exchange) form(response *http.Response) form {
	kind := response.Header.Get("Content-Type")
	switch {
	case x.call.url.Query().Get("alt") == "media":
		// The content of a file, of which nothing says anything about this call.
		return opaque
	case strings.HasPrefix(kind, "text/event-stream"):
		return events
	case x.target.method == "streamGenerateContent":
		return array
	case x.target.method != "" || kind == "" || strings.Contains(kind, "json") || response.ContentLength == 0:
		return whole
	}
	return opaque
}

// read takes an answer in one piece.
func (x *exchange) read(response *http.Response, good bool) (*http.Response, *failure) {
	defer response.Body.Close()
	reader := io.Reader(response.Body)
	if !good {
		reader = io.LimitReader(reader, mostErrorBody)
	}
	body, err := io.ReadAll(reader)
	if err != nil {
		return nil, x.unanswered(err)
	}
	if !good {
		return nil, x.refused(response, response.StatusCode, body, retryAfter(response.Header))
	}
	read := readEnvelope(body)
	if read.isError() {
		return nil, x.refused(response, read.status(response.StatusCode), body, 0)
	}
	x.transport.affinity.learn(x.lease.Project(), response.Header, read)
	x.lease.submit(success(read.usage()))
	x.end(nil)
	return withBody(response, body), nil
}

// refused is an error answer. The key is masked before anyone else sees it.
func (x *exchange) refused(response *http.Response, status int, body []byte, after time.Duration) *failure {
	body = redact(body, x.key)
	reported, _ := x.lease.submit(httpError(status, body, after))
	return &failure{reported: reported, err: &answered{withBody(response, body)}}
}

func withBody(response *http.Response, body []byte) *http.Response {
	response.Body = io.NopCloser(bytes.NewReader(body))
	response.ContentLength = int64(len(body))
	response.TransferEncoding = nil
	response.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return response
}

// unanswered is a request without a complete answer.
func (x *exchange) unanswered(err error) *failure {
	if late := x.watch.lateBy.Load(); late > 0 && !x.watch.started.Load() {
		x.lease.unsend()
		return &failure{missed: &SendWindowPassedError{time.Duration(late)}}
	}
	kind, message := x.explain(err)
	if x.call.ctx.Err() != nil {
		if kind == Connect {
			// It ended before there was a connection.
			x.lease.unsend()
			x.lease.submit(notSent())
		} else {
			x.lease.submit(transportError(kind, message, Usage{}))
		}
		return &failure{final: true, err: gaveUp(x.call.ctx, message)}
	}
	reported, _ := x.lease.submit(transportError(kind, message, Usage{}))
	return &failure{reported: reported, err: &TransportError{What: kind, Message: message, err: err}}
}

// explain says what happened, and tells it without the key.
func (x *exchange) explain(err error) (TransportKind, string) {
	message := redactText(err.Error(), x.key)
	if cause := context.Cause(x.ctx); cause == errNoAnswer || cause == errIdle {
		return Timeout, cause.Error()
	}
	departed := x.watch.connected.Load() || x.watch.started.Load()
	var network net.Error
	switch {
	case !departed:
		return Connect, message
	case errors.Is(x.call.ctx.Err(), context.Canceled):
		return Cancelled, "the caller gave up"
	case errors.Is(x.call.ctx.Err(), context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return Timeout, message
	}
	return Reset, message
}

// gaveUp is the error of a call whose context ended: Go's own.
func gaveUp(ctx context.Context, message string) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, ctx.Err()) {
		return fmt.Errorf("keybroker: the request to Gemini was called off (%w): %w", cause, ctx.Err())
	}
	return fmt.Errorf("keybroker: the request to Gemini was called off: %w", ctx.Err())
}

// retryAfter reads a number of seconds, as proxies send it. The form with a date depends on the clocks of both sides
// and is not read.
func retryAfter(header http.Header) time.Duration {
	seconds, err := strconv.ParseInt(strings.TrimSpace(header.Get("Retry-After")), 10, 32)
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
