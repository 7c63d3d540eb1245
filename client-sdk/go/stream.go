package keybroker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// mostJSON is how much of an answer in one piece of JSON is read for what it says, in bytes.
const mostJSON = 16 << 20

// progress is what is known of an answer that comes in pieces. It is apart from the flow, so that a context that ends
// can report the lease without keeping a flow alive that everyone else forgot.
type progress struct {
	mu       sync.Mutex
	usage    Usage
	finished bool
}

// leave reports the lease of an answer that is not read to its end.
func (p *progress) leave(state *leaseState, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// A caller may well stop at the finish reason, without asking for the end of the stream.
	if p.finished {
		state.submit(success(p.usage))
	} else {
		state.submit(transportError(Cancelled, why, p.usage))
	}
}

// flow is an answer that is passed on as it comes, and reports itself however it ends.
type flow struct {
	exchange *exchange
	response *http.Response
	source   io.ReadCloser
	form     form
	decoder  sseDecoder
	read     []byte
	progress *progress
	// ready is what was read ahead.
	ready []byte
	seen  int
	// failed is the error object that the answer held.
	failed *envelope
	body   []byte
	// ended is what Read gives from now on.
	ended   error
	closed  atomic.Bool
	idle    *time.Timer
	unwatch func() bool
}

// stream passes an answer on as it comes. Of one with events the first is waited for, so that an answer that begins
// with an error can be tried again.
func (x *exchange) stream(response *http.Response, form form) (*http.Response, *failure) {
	made := &flow{exchange: x, response: response, source: response.Body, form: form, progress: &progress{}}
	if form == events {
		if failure := made.open(); failure != nil {
			response.Body.Close()
			return nil, failure
		}
	}
	end := x.end
	made.idle = time.AfterFunc(time.Hour, func() { end(errIdle) })
	made.idle.Stop()
	state, progress := x.lease.state, made.progress
	made.unwatch = context.AfterFunc(x.call.ctx, func() { progress.leave(state, "the caller gave up") })
	response.Body = made
	return response, nil
}

func (f *flow) open() *failure {
	buffer := make([]byte, 16<<10)
	for f.seen == 0 && f.failed == nil {
		count, err := f.source.Read(buffer)
		f.look(buffer[:count])
		f.ready = append(f.ready, buffer[:count]...)
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) {
			if f.seen > 0 || f.failed != nil {
				// What came is passed on first.
				f.ended = f.broken(err)
				break
			}
			return f.exchange.unanswered(err)
		}
		f.lookAtEnd()
		if f.seen == 0 && f.failed == nil {
			return f.exchange.unanswered(errors.New("the stream held no event"))
		}
		if f.seen > 0 {
			f.ended = f.end()
		}
		break
	}
	if f.failed == nil || f.seen > 0 {
		return nil
	}
	x := f.exchange
	reported, _ := x.lease.submit(httpError(f.failed.status(f.response.StatusCode), redact(f.body, x.key), 0))
	return &failure{reported: reported, err: &answered{withBody(f.response, redact(f.ready, x.key))}}
}

// Read gives the next bytes of the answer.
func (f *flow) Read(into []byte) (int, error) {
	if f.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	if len(f.ready) > 0 {
		count := copy(into, f.ready)
		f.ready = f.ready[count:]
		return count, nil
	}
	if f.ended != nil {
		return 0, f.ended
	}
	f.idle.Reset(orDefault(f.exchange.transport.IdleTimeout, defaultIdleTimeout))
	count, err := f.source.Read(into)
	f.idle.Stop()
	f.look(into[:count])
	if err != nil {
		if errors.Is(err, io.EOF) {
			f.lookAtEnd()
			f.ended = f.end()
		} else {
			f.ended = f.broken(err)
		}
		f.release()
		if count == 0 {
			return 0, f.ended
		}
	}
	return count, nil
}

// Close reports the lease if the answer was not read to its end. It may be called while Read runs.
func (f *flow) Close() error {
	f.progress.leave(f.exchange.lease.state, "the answer was not read to its end")
	f.exchange.lease.cleanup.Stop()
	f.closed.Store(true)
	f.release()
	return f.source.Close()
}

func (f *flow) release() {
	f.idle.Stop()
	f.unwatch()
	f.exchange.end(nil)
}

// end reports an answer that came to its end, and gives what the caller then sees.
func (f *flow) end() error {
	x := f.exchange
	f.progress.mu.Lock()
	usage, finished := f.progress.usage, f.progress.finished
	f.progress.mu.Unlock()
	// The API names a finish reason in the last event, so an end without one is a cut, even where the framing of the
	// transport cannot tell.
	if f.failed == nil && !finished && x.target.method == "streamGenerateContent" {
		const message = "the stream ended before the answer did"
		x.lease.submit(transportError(Reset, message, usage))
		return &TransportError{What: Reset, Message: message, err: io.ErrUnexpectedEOF}
	}
	if f.failed == nil {
		x.lease.submit(success(usage))
	} else {
		x.lease.submit(httpError(f.failed.status(f.response.StatusCode), redact(f.body, x.key), 0))
	}
	return io.EOF
}

// broken reports an answer that broke off, and gives what the caller then sees.
func (f *flow) broken(err error) error {
	x := f.exchange
	if f.failed != nil {
		x.lease.submit(httpError(f.failed.status(f.response.StatusCode), redact(f.body, x.key), 0))
		return io.EOF
	}
	kind, message := x.explain(err)
	if kind == Connect {
		kind = Reset
	}
	if x.call.ctx.Err() != nil {
		f.progress.leave(x.lease.state, "the caller gave up")
		return gaveUp(x.call.ctx, message)
	}
	f.progress.mu.Lock()
	usage := f.progress.usage
	f.progress.mu.Unlock()
	x.lease.submit(transportError(kind, message, usage))
	return &TransportError{What: kind, Message: message, err: err}
}

func (f *flow) look(bytes []byte) {
	switch f.form {
	case events:
		f.decoder.push(bytes)
		for event := f.decoder.next(); event != nil; event = f.decoder.next() {
			f.lookAt(event)
		}
	case array:
		if len(f.read)+len(bytes) <= mostJSON {
			f.read = append(f.read, bytes...)
		}
	}
}

func (f *flow) lookAtEnd() {
	switch f.form {
	case events:
		event, stray := f.decoder.finish()
		if read := readEnvelope(stray); read.isError() {
			f.fail(read, stray)
		} else if event != nil {
			f.lookAt(event)
		}
	case array:
		if read := readEnvelope(f.read); read.isError() {
			f.fail(read, f.read)
			return
		}
		var members []json.RawMessage
		if json.Unmarshal(f.read, &members) == nil {
			for _, member := range members {
				f.lookAt(member)
			}
		}
	case opaque:
		f.progress.mu.Lock()
		f.progress.finished = true
		f.progress.mu.Unlock()
	}
}

func (f *flow) lookAt(event []byte) {
	read := readEnvelope(event)
	if read.isError() {
		f.fail(read, event)
		return
	}
	f.seen++
	if read.Interaction.ID != "" {
		f.exchange.transport.affinity.learn(f.exchange.lease.Project(), nil, read)
	}
	f.progress.mu.Lock()
	defer f.progress.mu.Unlock()
	if read.UsageMetadata != nil {
		f.progress.usage = *read.UsageMetadata
	}
	f.progress.finished = f.progress.finished || read.isFinished()
}

// fail notes an error object in the answer. What follows it does not count, and the lease can be reported at once
// unless another request may be tried.
func (f *flow) fail(read *envelope, body []byte) {
	if f.failed != nil {
		return
	}
	f.failed, f.body = read, append([]byte(nil), body...)
	if f.seen > 0 {
		x := f.exchange
		x.lease.submit(httpError(read.status(f.response.StatusCode), redact(f.body, x.key), 0))
	}
}
