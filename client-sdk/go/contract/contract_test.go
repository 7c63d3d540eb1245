// Package contract plays the scenarios of client-sdk/contract, which the SDKs of all languages share.
package contract

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genai"

	keybroker "github.com/keybroker/keybroker/client-sdk/go"
	"github.com/keybroker/keybroker/client-sdk/go/internal/stage"
	"github.com/keybroker/keybroker/client-sdk/go/keybrokergenai"
)

// A library of the official SDK keeps one goroutine for good.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
}

type scenario struct {
	Name   string            `json:"name"`
	About  string            `json:"about"`
	Client client            `json:"client"`
	Steps  []json.RawMessage `json:"steps"`
	// The stage's.
	Projects   int               `json:"projects"`
	Pool       json.RawMessage   `json:"pool"`
	Brokers    int               `json:"brokers"`
	Faults     []json.RawMessage `json:"faults"`
	Identities []json.RawMessage `json:"identities"`
	TLS        json.RawMessage   `json:"tls"`
}

// client is the options of one.
type client struct {
	Deadline    millis `json:"deadline"`
	CallTimeout millis `json:"call_timeout"`
	Attempts    int    `json:"attempts"`
	Token       string `json:"token"`
	TLS         *struct {
		CAFile   string `json:"ca_file"`
		CertFile string `json:"cert_file"`
		KeyFile  string `json:"key_file"`
	} `json:"tls"`
}

type millis int64

func (m millis) duration() time.Duration { return time.Duration(m) * time.Millisecond }

// step has one action.
type step struct {
	Acquire   *request        `json:"acquire"`
	BeginSend *struct{}       `json:"begin_send"`
	Report    *report         `json:"report"`
	Renew     *renew          `json:"renew"`
	Raise     *raise          `json:"raise"`
	Abandon   *abandon        `json:"abandon"`
	Generate  *generate       `json:"generate"`
	Flush     *struct{}       `json:"flush"`
	Sleep     *millis         `json:"sleep"`
	Client    *client         `json:"client"`
	Stage     string          `json:"stage"`
	Number    json.RawMessage `json:"number"`
	Rules     json.RawMessage `json:"rules"`
	After     json.RawMessage `json:"after"`
	As        string          `json:"as"`
	Lease     string          `json:"lease"`
	Expect    json.RawMessage `json:"expect"`
}

type request struct {
	Model       string `json:"model"`
	Pool        string `json:"pool"`
	Wait        millis `json:"wait"`
	TTL         millis `json:"ttl"`
	Permits     int    `json:"permits"`
	InputTokens int64  `json:"input_tokens"`
	Consumer    string `json:"consumer"`
}

func (r request) sdk() keybroker.Request {
	return keybroker.Request{
		Model: r.Model, Pool: r.Pool, Wait: r.Wait.duration(), TTL: r.TTL.duration(),
		Permits: r.Permits, InputTokens: r.InputTokens, Consumer: r.Consumer,
	}
}

type report struct {
	Success *struct {
		InputTokens    *int64 `json:"input_tokens"`
		OutputTokens   *int64 `json:"output_tokens"`
		TotalTokens    *int64 `json:"total_tokens"`
		ThoughtsTokens *int64 `json:"thoughts_tokens"`
		CachedTokens   *int64 `json:"cached_tokens"`
	} `json:"success"`
	HTTPError *struct {
		Status     int    `json:"status"`
		Body       string `json:"body"`
		RetryAfter millis `json:"retry_after"`
	} `json:"http_error"`
	TransportError *struct {
		Kind string `json:"kind"`
	} `json:"transport_error"`
	NotSent *struct{} `json:"not_sent"`
}

type renew struct {
	TTL millis `json:"ttl"`
}

type raise struct {
	request
	Sent bool `json:"sent"`
}

type abandon struct {
	Sent bool `json:"sent"`
}

type generate struct {
	Model       string `json:"model"`
	Stream      bool   `json:"stream"`
	StopAfter   int    `json:"stop_after"`
	CancelAfter millis `json:"cancel_after"`
}

// span is a range of numbers; nil is free.
type span struct {
	Min *float64 `json:"min"`
	Max *float64 `json:"max"`
}

func (s *span) check(t *testing.T, what string, value float64) {
	t.Helper()
	if s == nil {
		return
	}
	if s.Min != nil && value < *s.Min || s.Max != nil && value > *s.Max {
		t.Errorf("%s is %v, which is out of range", what, value)
	}
}

// strict decodes and fails on names that it does not know.
func strict(t *testing.T, data []byte, into any) {
	t.Helper()
	if len(data) == 0 {
		return
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		t.Fatalf("this runner does not know how to play %s: %v", data, err)
	}
}

func TestScenarios(t *testing.T) {
	folder := filepath.Join(stage.Root(), "client-sdk", "contract", "scenarios")
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no scenarios in %s", folder)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			t.Parallel()
			play(t, file)
		})
	}
}

func TestUnknownNamesFail(t *testing.T) {
	for _, text := range []string{`{"fly": {}}`, `{"acquire": {"modell": "m"}}`} {
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.DisallowUnknownFields()
		if decoder.Decode(&step{}) == nil {
			t.Errorf("%s was taken for a step", text)
		}
	}
}

// player plays one scenario.
type player struct {
	*testing.T
	broker *keybroker.Client
	gemini *genai.Client
	leases map[string]*keybroker.Lease
	scene  *stage.Scene
}

func play(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var story scenario
	strict(t, text, &story)
	p := &player{T: t, leases: map[string]*keybroker.Lease{}}
	p.scene = stage.Open(p.T, file)
	p.connect(story.Client)
	for at, raw := range story.Steps {
		var step step
		strict(t, raw, &step)
		p.take(step, raw)
		if t.Failed() {
			t.Fatalf("step %d: %s", at, raw)
		}
	}
}

// connect makes the client with these options.
func (p *player) connect(given client) {
	var options []keybroker.Option
	if given.CallTimeout > 0 {
		options = append(options, keybroker.WithCallTimeout(given.CallTimeout.duration()))
	}
	if given.Token != "" {
		options = append(options, keybroker.WithToken(given.Token))
	}
	if files := given.TLS; files != nil {
		path := func(file string) string { return filepath.Join(p.scene.Certificates, file) }
		options = append(options, keybroker.WithCAFile(path(files.CAFile)))
		if files.CertFile != "" {
			options = append(options, keybroker.WithClientCertificate(path(files.CertFile), path(files.KeyFile)))
		}
	}
	broker, err := keybroker.New(strings.Join(p.scene.Brokers, ","), options...)
	if err != nil {
		p.Fatal(err)
	}
	p.broker = broker
	p.Cleanup(func() { broker.Close() })
	transport := &keybroker.Transport{
		Client:   broker,
		Deadline: given.Deadline.duration(),
		Attempts: given.Attempts,
	}
	p.gemini, err = keybrokergenai.NewClient(p.Context(), transport, &genai.ClientConfig{
		HTTPClient:  &http.Client{Transport: &http.Transport{}},
		HTTPOptions: genai.HTTPOptions{BaseURL: p.scene.Gemini.URL},
	})
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(transport.CloseIdleConnections)
}

func (p *player) take(step step, raw json.RawMessage) {
	ctx := p.Context()
	name := step.Lease
	if name == "" {
		name = "lease"
	}
	switch {
	case step.Acquire != nil:
		p.acquire(ctx, step)
	case step.BeginSend != nil:
		key, err := p.leases[name].BeginSend()
		var expect struct {
			Key   bool   `json:"key"`
			Error string `json:"error"`
		}
		strict(p.T, step.Expect, &expect)
		p.kind(err, expect.Error)
		if expect.Key && !strings.HasPrefix(key, "fake-key-") {
			p.Errorf("there is no key: %v", err)
		}
	case step.Report != nil:
		p.report(ctx, p.leases[name], step)
	case step.Renew != nil:
		left, err := p.leases[name].Renew(ctx, step.Renew.TTL.duration())
		var expect struct {
			ExpiresIn *span  `json:"expires_in"`
			Error     string `json:"error"`
		}
		strict(p.T, step.Expect, &expect)
		p.kind(err, expect.Error)
		expect.ExpiresIn.check(p.T, "expires_in", float64(left.Milliseconds()))
	case step.Raise != nil:
		var expect struct {
			Raised bool `json:"raised"`
		}
		strict(p.T, step.Expect, &expect)
		if raised := p.raise(ctx, step.Raise); expect.Raised && raised != errOwn {
			p.Errorf("the caller's own error became %v", raised)
		}
	case step.Abandon != nil:
		if step.Abandon.Sent {
			if _, err := p.leases[name].BeginSend(); err != nil {
				p.Error(err)
			}
		}
		delete(p.leases, name)
		// What nobody holds any more is found by the garbage collector.
		runtime.GC()
		time.Sleep(20 * time.Millisecond)
		runtime.GC()
	case step.Generate != nil:
		p.generate(ctx, step)
	case step.Flush != nil:
		within, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		if err := p.broker.Flush(within); err != nil {
			p.Error(err)
		}
	case step.Sleep != nil:
		time.Sleep(step.Sleep.duration())
	case step.Client != nil:
		p.connect(*step.Client)
	case step.Stage != "":
		p.stage(step, raw)
	default:
		p.Fatalf("a step without an action: %s", raw)
	}
}

func (p *player) acquire(ctx context.Context, step step) {
	var expect struct {
		Granted    bool   `json:"granted"`
		Error      string `json:"error"`
		RetryAfter *span  `json:"retry_after"`
		Text       string `json:"text"`
	}
	strict(p.T, step.Expect, &expect)
	lease, err := p.broker.Acquire(ctx, step.Acquire.sdk())
	p.kind(err, expect.Error)
	if expect.Granted && lease == nil {
		p.Errorf("there is no lease: %v", err)
	}
	if refused, ok := errors.AsType[*keybroker.RefusedError](err); ok {
		expect.RetryAfter.check(p.T, "retry_after", float64(refused.RetryAfter.Milliseconds()))
	} else if expect.RetryAfter != nil {
		p.Errorf("there is no retry_after: %v", err)
	}
	if expect.Text != "" && !strings.Contains(fmt.Sprint(err), expect.Text) {
		p.Errorf("the text %q does not hold %q", err, expect.Text)
	}
	if lease != nil {
		name := step.As
		if name == "" {
			name = "lease"
		}
		p.leases[name] = lease
		p.Cleanup(func() { p.leases = nil })
	}
}

func (p *player) report(ctx context.Context, lease *keybroker.Lease, step step) {
	var expect struct {
		Action     string `json:"action"`
		Settled    string `json:"settled"`
		Signal     string `json:"signal"`
		RetryAfter *span  `json:"retry_after"`
		Once       *bool  `json:"once"`
		Error      string `json:"error"`
	}
	strict(p.T, step.Expect, &expect)
	var advice keybroker.Advice
	var err error
	switch outcome := step.Report; {
	case outcome.Success != nil:
		used := outcome.Success
		advice, err = lease.Success(ctx, keybroker.Usage{
			InputTokens: used.InputTokens, OutputTokens: used.OutputTokens, TotalTokens: used.TotalTokens,
			ThoughtsTokens: used.ThoughtsTokens, CachedTokens: used.CachedTokens,
		})
	case outcome.HTTPError != nil:
		failed := outcome.HTTPError
		advice, err = lease.HTTPError(ctx, failed.Status, []byte(failed.Body), failed.RetryAfter.duration())
	case outcome.TransportError != nil:
		advice, err = lease.TransportError(ctx, keybroker.TransportKind(outcome.TransportError.Kind), "", keybroker.Usage{})
	case outcome.NotSent != nil:
		advice, err = lease.NotSent(ctx)
	default:
		p.Fatal("a report without an outcome")
	}
	p.kind(err, expect.Error)
	same := func(what, expected, got string) {
		if expected != "" && expected != got {
			p.Errorf("%s is %s, not %s", what, got, expected)
		}
	}
	same("action", expect.Action, string(advice.Action))
	same("settled", expect.Settled, string(advice.Settled))
	same("signal", expect.Signal, advice.Signal)
	expect.RetryAfter.check(p.T, "retry_after", float64(advice.RetryAfter.Milliseconds()))
	if expect.Once != nil && *expect.Once != advice.Once {
		p.Errorf("once is %v", advice.Once)
	}
}

var errOwn = errors.New("the caller's own")

// raise panics in a function that holds a lease, and gives what came out of it.
func (p *player) raise(ctx context.Context, step *raise) (raised any) {
	defer func() { raised = recover() }()
	lease, err := p.broker.Acquire(ctx, step.sdk())
	if err != nil {
		return err
	}
	defer lease.Close()
	if step.Sent {
		if _, err := lease.BeginSend(); err != nil {
			return err
		}
	}
	panic(errOwn)
}

func (p *player) generate(ctx context.Context, step step) {
	var expect struct {
		Answer bool   `json:"answer"`
		Error  string `json:"error"`
		Status int    `json:"status"`
		Events *span  `json:"events"`
	}
	strict(p.T, step.Expect, &expect)
	wanted := step.Generate
	if wanted.CancelAfter > 0 {
		cancellable, cancel := context.WithCancel(ctx)
		defer cancel()
		time.AfterFunc(wanted.CancelAfter.duration(), cancel)
		ctx = cancellable
	}
	var text string
	var err error
	events := 0
	prompt := genai.Text("tell me a short story")
	if wanted.Stream {
		for event, failed := range p.gemini.Models.GenerateContentStream(ctx, wanted.Model, prompt, nil) {
			if failed != nil {
				err = failed
				break
			}
			text += event.Text()
			if events++; events == wanted.StopAfter {
				break
			}
		}
	} else {
		var answer *genai.GenerateContentResponse
		if answer, err = p.gemini.Models.GenerateContent(ctx, wanted.Model, prompt, nil); err == nil {
			text = answer.Text()
		}
	}
	// Where nothing is said of an error, as of a stream's end, one is free.
	if expect.Error != "" || expect.Answer {
		p.kind(err, expect.Error)
	}
	if expect.Answer && text == "" {
		p.Errorf("there is no answer: %v", err)
	}
	if expect.Status != 0 {
		if upstream, ok := errors.AsType[genai.APIError](err); !ok || upstream.Code != expect.Status {
			p.Errorf("the status is not %d: %v", expect.Status, err)
		}
	}
	expect.Events.check(p.T, "events", float64(events))
}

func (p *player) stage(step step, raw json.RawMessage) {
	var line bytes.Buffer
	if err := json.Compact(&line, raw); err != nil {
		p.Fatal(err)
	}
	var expected, seen map[string]any
	if len(step.Expect) > 0 {
		if err := json.Unmarshal(step.Expect, &expected); err != nil {
			p.Fatal(err)
		}
	}
	p.scene.Take(line.String(), &seen)
	for name, value := range expected {
		got, known := seen[name]
		if !known {
			p.Errorf("the stage does not know %q", name)
		} else if got != value {
			p.Errorf("%s is %v, not %v: %v", name, got, value, seen)
		}
	}
}

// kind checks that an error is of the kind that is expected, or that there is none.
func (p *player) kind(err error, expected string) {
	p.Helper()
	if got := kindOf(err); got != expected {
		p.Errorf("the error is of the kind %q, not %q: %v", got, expected, err)
	}
}

func kindOf(err error) string {
	if err == nil {
		return ""
	}
	if known, ok := errors.AsType[keybroker.Error](err); ok {
		return string(known.Kind())
	}
	if _, ok := errors.AsType[genai.APIError](err); ok {
		return "upstream"
	}
	if errors.Is(err, context.Canceled) {
		return "cancelled"
	}
	return "unknown to this runner"
}
