package keybroker

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// PlaceholderKey is an API key to give to SDKs that insist on one. [Transport] replaces it.
const PlaceholderKey = "leased-by-keybroker"

// Transport is an [http.RoundTripper] that sends each request to the Gemini API with a leased key:
//
//	broker, err := keybroker.New("broker:50051")
//	httpClient := &http.Client{Transport: &keybroker.Transport{Client: broker}}
//
// For each request it takes a lease, sets the header x-goog-api-key, sends, reports what came of it, and does what the
// broker advises: another key, a later try, or none. The caller sees Google's last answer, or an error of this package
// if no lease could be had. Bodies are kept in memory, to be sent again. Server-sent events pass through as they come,
// and their lease is reported when the body ends, is closed, or the context of the request ends.
//
// A context that ends is the caller's giving up: the lease is reported as cancelled, or as timed out if a deadline
// passed. Requests whose path holds no version of the Gemini API (such as /v1beta/), and redirects to another host,
// are sent without any key and without a lease.
//
// Fields must not be changed after the first request. A Transport is safe for any number of goroutines.
type Transport struct {
	// Client is the client of the broker. Required.
	Client *Client
	// Base sends the requests. Default: one like [http.DefaultTransport] that keeps more connections open.
	Base http.RoundTripper
	// Request is what every lease is asked with; its Model comes from the path of the request, or from the field
	// "model" of its body. Request.Wait: see there.
	Request Request
	// Deadline bounds how long one call looks for leases and tries again; the deadline of its context does too.
	// It does not cut off an answer that is coming. Default: 60 s.
	Deadline time.Duration
	// Attempts is how many requests one call sends at most; with a Fallback also how often brokers that are away are
	// asked, else until the deadline. Default: 8.
	Attempts int
	// RequestTimeout is how long one request may take until its answer is complete, or, of a stream, until its first
	// event. Default: 10 minutes.
	RequestTimeout time.Duration
	// IdleTimeout is how long a stream may pause while it is read. Default: 2 minutes.
	IdleTimeout time.Duration
	// Estimator gives an upper bound of the input tokens of a request with a JSON body. Default:
	// [EstimateInputTokens]. Request.InputTokens, if set, goes before.
	Estimator func(model string, body []byte) int64
	// CountTokens asks Google's countTokens first, with a lease of its own, instead of estimating what is to be
	// generated.
	CountTokens bool
	// FilesModel is the model that leases for requests which name none are charged to: uploads, files, caches,
	// batches, lists. Default: Request.Model, else "gemini-2.5-flash".
	FilesModel string
	// Fallback is called when no lease can be had. It may give an API key of its own to send the request with, once;
	// the error it gives instead is the caller's.
	Fallback func(ctx context.Context, request *http.Request, err error) (key string, fallbackErr error)
	// Cache answers identical requests from memory. Default: none.
	Cache *ResponseCache

	affinity affinity
}

var defaultBase = sync.OnceValue(func() http.RoundTripper {
	base, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport
	}
	base = base.Clone()
	base.MaxIdleConns = 2048
	base.MaxIdleConnsPerHost = 1024
	return base
})

func (t *Transport) base() http.RoundTripper {
	if t.Base != nil {
		return t.Base
	}
	return defaultBase()
}

// CloseIdleConnections closes the connections to Google that are not in use.
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// RoundTrip sends the request with leased keys. It implements [http.RoundTripper].
func (t *Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	if t.Client == nil {
		closeBody(request)
		return nil, invalid("Transport.Client", "it is nil: set it to a client made by New")
	}
	if !isGemini(request.URL.Path) || strays(request) {
		return t.base().RoundTrip(withoutKey(request))
	}
	call, err := newCall(t, request)
	if err != nil {
		return nil, err
	}
	if t.Cache == nil || !call.cacheable() {
		return call.run()
	}
	key := call.cacheKey()
	if response := t.Cache.get(key, request); response != nil {
		return response, nil
	}
	response, err := call.run()
	if err == nil {
		t.Cache.put(key, response)
	}
	return response, err
}

// strays is whether a redirect leads to another host than the one that was asked: no key is to be sent there.
func strays(request *http.Request) bool {
	from := request.Response
	return from != nil && from.Request != nil && from.Request.URL.Host != request.URL.Host
}

func withoutKey(request *http.Request) *http.Request {
	clean := request.Clone(request.Context())
	clean.Header.Del(keyHeader)
	clean.URL = cleanURL(request.URL)
	return clean
}

func closeBody(request *http.Request) {
	if request.Body != nil {
		request.Body.Close()
	}
}
