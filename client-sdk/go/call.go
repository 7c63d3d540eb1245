package keybroker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	keyHeader          = "X-Goog-Api-Key"
	defaultModel       = "gemini-2.5-flash"
	defaultTimeout     = 10 * time.Minute
	defaultIdleTimeout = 2 * time.Minute
)

// call is one request of the caller's, which may be sent several times.
type call struct {
	transport *Transport
	original  *http.Request
	ctx       context.Context
	url       *url.URL
	header    http.Header
	body      []byte
	target    target
	lease     Request
	deadline  time.Time
}

// countingKey marks the context of a call that only counts tokens, which is no reason to wait for a broker.
type countingKey struct{}

// answered is the failure of a request that Google answered: what the caller sees if nothing better comes.
type answered struct{ response *http.Response }

func (a *answered) Error() string { return "keybroker: Gemini answered " + a.response.Status }

func newCall(transport *Transport, request *http.Request) (*call, error) {
	var body []byte
	if request.Body != nil {
		var err error
		body, err = io.ReadAll(request.Body)
		request.Body.Close()
		if err != nil {
			return nil, fmt.Errorf("keybroker: the request's body cannot be read: %w", err)
		}
	}
	made := &call{
		transport: transport, original: request, ctx: request.Context(),
		url: cleanURL(request.URL), header: request.Header.Clone(), body: body,
		lease:    transport.Request,
		deadline: time.Now().Add(orDefault(transport.Deadline, defaultDeadline)),
	}
	if made.header == nil {
		made.header = http.Header{}
	}
	made.header.Del(keyHeader)
	made.header.Del("Authorization")
	// The base asks for compression by itself, and undoes it: what was used must be readable here.
	made.header.Del("Accept-Encoding")
	var parsed any
	if isJSON(request.Header) && len(body) > 0 {
		parsed = parseJSON(body)
	}
	made.target = targetOf(request.URL.Path, parsed)
	made.ask(parsed)
	return made, nil
}

// ask completes what leases are asked with.
func (c *call) ask(parsed any) {
	t := c.transport
	switch {
	case c.target.model != "":
		c.lease.Model = c.target.model
	case t.FilesModel != "":
		c.lease.Model = t.FilesModel
	case c.lease.Model == "":
		c.lease.Model = defaultModel
	}
	if c.target.permits > 1 {
		c.lease.Permits = c.target.permits
	}
	if c.lease.InputTokens == 0 && parsed != nil {
		switch {
		case t.CountTokens && c.target.generates():
			c.lease.InputTokens = c.counted(parsed)
		case t.Estimator != nil:
			c.lease.InputTokens = max(t.Estimator(c.lease.Model, c.body), 0)
		default:
			c.lease.InputTokens = estimate(parsed)
		}
	}
	if project := t.affinity.projectOf(c.url, parsed); project != "" {
		c.lease.Project = project
	}
}

// counted asks countTokens; the local estimate stands in where that fails.
func (c *call) counted(parsed any) int64 {
	fields, ok := parsed.(map[string]any)
	if !ok {
		return estimate(parsed)
	}
	inner := map[string]any{"model": "models/" + c.target.model}
	for name, field := range fields {
		inner[name] = field
	}
	body, err := json.Marshal(map[string]any{"generateContentRequest": inner})
	if err != nil {
		return estimate(parsed)
	}
	place := *c.url
	place.RawQuery = ""
	place.Path = c.url.Path[:strings.LastIndexByte(c.url.Path, ':')] + ":countTokens"
	place.RawPath = ""
	counting := context.WithValue(c.ctx, countingKey{}, true)
	request, err := http.NewRequestWithContext(counting, http.MethodPost, place.String(), bytes.NewReader(body))
	if err != nil {
		return estimate(parsed)
	}
	request.Header = c.header.Clone()
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		return estimate(parsed)
	}
	defer response.Body.Close()
	var count struct {
		TotalTokens *int64 `json:"totalTokens"`
	}
	if json.NewDecoder(response.Body).Decode(&count) != nil || count.TotalTokens == nil {
		return estimate(parsed)
	}
	return *count.TotalTokens
}

// run sends the request until it is answered or nothing is left to try.
func (c *call) run() (*http.Response, error) {
	patient := c.transport.Fallback == nil && c.ctx.Value(countingKey{}) == nil
	tries := newTries(c.transport.Client, c.lease, c.deadline, orDefault(c.transport.Attempts, defaultAttempts), patient)
	for {
		lease, err := tries.lease(c.ctx)
		if err != nil {
			return c.unleased(tries, err)
		}
		key, err := lease.BeginSend()
		if err == nil {
			tries.sent++
			var failure *failure
			var response *http.Response
			if response, failure = c.send(lease, key); failure == nil {
				return response, nil
			}
			switch {
			case failure.missed != nil:
				tries.sent--
				err = failure.missed
			case failure.final:
				return c.give(failure.err)
			default:
				if err := tries.obey(c.ctx, lease, failure.reported, failure.err); err != nil {
					return c.give(err)
				}
				continue
			}
		}
		if err := tries.missed(lease, err); err != nil {
			return c.give(err)
		}
	}
}

// give turns a failure into what the caller sees.
func (c *call) give(err error) (*http.Response, error) {
	if answered, ok := errors.AsType[*answered](err); ok {
		return answered.response, nil
	}
	return nil, err
}

// unleased is what becomes of a call that gets no lease.
func (c *call) unleased(tries *tries, err error) (*http.Response, error) {
	if c.transport.Fallback == nil || c.ctx.Err() != nil {
		return c.give(tries.lastOr(err))
	}
	key, fallbackErr := c.transport.Fallback(c.ctx, c.original, err)
	if fallbackErr != nil {
		return nil, fallbackErr
	}
	request := c.outgoing(c.ctx, key, bytesBody(c.body))
	response, err := c.transport.base().RoundTrip(request)
	if err != nil {
		return nil, &TransportError{What: Reset, Message: redactText(err.Error(), key), err: err}
	}
	response.Request = c.original
	return response, nil
}

// outgoing is the request as it is sent with this key.
func (c *call) outgoing(ctx context.Context, key string, body func() (io.ReadCloser, error)) *http.Request {
	request := c.original.WithContext(ctx)
	request.URL = c.url
	request.Header = c.header.Clone()
	request.Header.Set(keyHeader, key)
	request.TransferEncoding = nil
	request.ContentLength = int64(len(c.body))
	request.Body, request.GetBody = http.NoBody, nil
	if len(c.body) > 0 {
		// The base may ask again where it knows that nothing was sent, as on a connection that was found closed.
		request.GetBody = body
		request.Body, _ = body()
	}
	return request
}

func bytesBody(body []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
}

func orDefault[T ~int | ~int64](value, otherwise T) T {
	if value > 0 {
		return value
	}
	return otherwise
}
