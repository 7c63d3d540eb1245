package keybroker

import (
	"bytes"
	"crypto/sha256"
	"io"
	"net/http"
	"slices"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// mostCached is the largest answer that is kept, in bytes.
const mostCached = 1 << 20

// ResponseCache keeps good answers in memory, for [Transport.Cache]: a request with the same URL and body is then
// answered without a lease and without Google. It holds answers in one piece only, no streams.
type ResponseCache struct {
	kept *lru.Cache[[sha256.Size]byte, cached]
	ttl  time.Duration
}

type cached struct {
	status int
	header http.Header
	body   []byte
	until  time.Time
}

// NewResponseCache makes a cache of at most so many answers (1 at least), each for so long; 0 is for as long as there
// is room. Answers of more than 1 MiB are not kept.
func NewResponseCache(answers int, ttl time.Duration) *ResponseCache {
	kept, _ := lru.New[[sha256.Size]byte, cached](max(answers, 1))
	return &ResponseCache{kept: kept, ttl: ttl}
}

// cacheable is true of methods whose answer depends on the request alone.
func (c *call) cacheable() bool {
	methods := []string{"generateContent", "countTokens", "embedContent", "batchEmbedContents"}
	return c.original.Method == http.MethodPost && slices.Contains(methods, c.target.method)
}

func (c *call) cacheKey() [sha256.Size]byte {
	hash := sha256.New()
	io.WriteString(hash, c.url.String()+"\n")
	hash.Write(c.body)
	return [sha256.Size]byte(hash.Sum(nil))
}

func (c *ResponseCache) get(key [sha256.Size]byte, request *http.Request) *http.Response {
	kept, ok := c.kept.Get(key)
	if !ok || c.ttl > 0 && time.Now().After(kept.until) {
		return nil
	}
	return &http.Response{
		Status: http.StatusText(kept.status), StatusCode: kept.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: kept.header.Clone(), Body: io.NopCloser(bytes.NewReader(kept.body)),
		ContentLength: int64(len(kept.body)), Request: request,
	}
}

// put keeps a good answer, whose body is in memory.
func (c *ResponseCache) put(key [sha256.Size]byte, response *http.Response) {
	if response.StatusCode != http.StatusOK || response.ContentLength < 0 || response.ContentLength > mostCached {
		return
	}
	body, err := io.ReadAll(response.Body)
	response.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil {
		return
	}
	c.kept.Add(key, cached{response.StatusCode, response.Header.Clone(), body, time.Now().Add(c.ttl)})
}
