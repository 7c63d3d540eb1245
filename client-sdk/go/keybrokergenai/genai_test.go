package keybrokergenai_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genai"
	"google.golang.org/genai/interactions/models/interactions"
	"google.golang.org/genai/interactions/models/operations"

	keybroker "github.com/keybroker/keybroker/client-sdk/go"
	"github.com/keybroker/keybroker/client-sdk/go/internal/stage"
	"github.com/keybroker/keybroker/client-sdk/go/keybrokergenai"
)

const model = "gemini-2.5-flash"

// A library of the official SDK keeps one goroutine for good.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
}

type scene struct {
	broker *keybroker.Client
	gemini *stage.Gemini
	client *genai.Client
}

func set(t *testing.T, projects int) *scene {
	t.Helper()
	broker := stage.StartBroker(t, stage.Config(projects, "requests_per_minute = 100, in_flight = 10", ""), "")
	gemini := stage.StartGemini(t, projects)
	leases, err := keybroker.New(broker.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { leases.Close() })
	transport := &keybroker.Transport{Client: leases}
	// A key in the environment must not be used.
	t.Setenv("GEMINI_API_KEY", "fake-key-of-the-environment")
	client, err := keybrokergenai.NewClient(t.Context(), transport, &genai.ClientConfig{
		HTTPClient:  &http.Client{Transport: &http.Transport{}},
		HTTPOptions: genai.HTTPOptions{BaseURL: gemini.URL},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	t.Cleanup(func() { settled(t, leases) })
	return &scene{leases, gemini, client}
}

func settled(t *testing.T, leases *keybroker.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := leases.Flush(ctx); err != nil || leases.ReportsLost() > 0 {
		t.Errorf("%d reports were lost: %v", leases.ReportsLost(), err)
	}
}

func TestTheOfficialSDK(t *testing.T) {
	s := set(t, 2)
	ctx := t.Context()
	answer, err := s.client.Models.GenerateContent(ctx, model, genai.Text("hello there"), nil)
	if err != nil || answer.Text() != "echo: hello there" {
		t.Errorf("it answered %v: %v", answer, err)
	}
	text, events := "", 0
	for event, err := range s.client.Models.GenerateContentStream(ctx, model, genai.Text("hello there"), nil) {
		if err != nil {
			t.Fatal(err)
		}
		text += event.Text()
		events++
	}
	if text != "echo: hello there" || events != 3 {
		t.Errorf("%d events: %s", events, text)
	}
	count, err := s.client.Models.CountTokens(ctx, model, genai.Text("hello there"), nil)
	if err != nil || count.TotalTokens == 0 {
		t.Errorf("it counted %v: %v", count, err)
	}
	embedded, err := s.client.Models.EmbedContent(ctx, "gemini-embedding-001", []*genai.Content{
		genai.NewContentFromText("one", genai.RoleUser), genai.NewContentFromText("two", genai.RoleUser),
	}, nil)
	if err != nil || len(embedded.Embeddings) != 2 {
		t.Errorf("it embedded %v: %v", embedded, err)
	}
	chat, err := s.client.Chats.Create(ctx, model, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := chat.SendMessage(ctx, genai.Part{Text: "and again"}); err != nil || answer.Text() != "echo: and again" {
		t.Errorf("it answered %v: %v", answer, err)
	}
	got, err := s.client.Models.Get(ctx, model, nil)
	if err != nil || !strings.HasSuffix(got.Name, model) {
		t.Errorf("it got %v: %v", got, err)
	}
	if verdict := s.gemini.Verdict(); verdict.KeysInURL != 0 || verdict.Calls != 6 {
		t.Errorf("the fake saw %+v", verdict)
	}
}

func TestGooglesAnswerIsWhatTheOfficialSDKShows(t *testing.T) {
	s := set(t, 1)
	s.gemini.Fault(`{"count":1,"fault":{"kind":"error","name":"bad_request"}}`)
	_, err := s.client.Models.GenerateContent(t.Context(), model, genai.Text("hello"), nil)
	upstream, ok := errors.AsType[genai.APIError](err)
	if !ok || upstream.Code != 400 || upstream.Status != "INVALID_ARGUMENT" {
		t.Errorf("it gave %v", err)
	}
}

func TestALeaseThatCannotBeHadIsAnErrorOfThisSDK(t *testing.T) {
	s := set(t, 1)
	transport := &keybroker.Transport{Client: s.broker, Request: keybroker.Request{Pool: "nowhere"}}
	client, err := keybrokergenai.NewClient(t.Context(), transport, &genai.ClientConfig{HTTPOptions: genai.HTTPOptions{BaseURL: s.gemini.URL}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Models.GenerateContent(t.Context(), model, genai.Text("hello"), nil)
	if !errors.Is(err, keybroker.ErrUnknownPool) || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("it gave %v", err)
	}
}

func TestFiles(t *testing.T) {
	s := set(t, 3)
	ctx := t.Context()
	file, err := s.client.Files.Upload(ctx, strings.NewReader("the content of a file"), &genai.UploadFileConfig{MIMEType: "text/plain"})
	skipWithout(t, err, "/upload/v1beta/files")
	if err != nil {
		t.Fatal(err)
	}
	for range 6 {
		contents := []*genai.Content{genai.NewContentFromParts([]*genai.Part{
			genai.NewPartFromText("what is in it?"), genai.NewPartFromURI(file.URI, file.MIMEType),
		}, genai.RoleUser)}
		if _, err := s.client.Models.GenerateContent(ctx, model, contents, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := s.client.Files.Get(ctx, file.Name, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.client.Files.Delete(ctx, file.Name, nil); err != nil {
		t.Fatal(err)
	}
	projects := map[string]bool{}
	for _, entry := range s.gemini.Log() {
		projects[entry.Project] = true
	}
	if len(projects) != 1 {
		t.Errorf("a file of one project was used with keys of %v", projects)
	}
}

func TestInteractions(t *testing.T) {
	s := set(t, 2)
	before := s.gemini.Verdict().Calls
	input := interactions.NewInteractionsInput([]interactions.Content{{TextContent: &interactions.TextContent{Text: "hello there"}}})
	request := operations.CreateInteractionRequest{
		Body: operations.NewCreateInteractionRequestBody(interactions.CreateModelInteraction{Model: interactions.Model(model), Input: &input}),
	}
	_, err := s.client.Interactions.Create(t.Context(), request)
	if err != nil && strings.Contains(err.Error(), "404") {
		t.Skip("the fake Gemini does not know /v1beta/interactions")
	}
	if err != nil {
		t.Fatal(err)
	}
	// Once, and with none of the SDK's own retries.
	s.gemini.Fault(`{"count":1,"fault":{"kind":"error","name":"bad_request"}}`)
	if _, err := s.client.Interactions.Create(t.Context(), request); err == nil {
		t.Error("an error was not shown")
	}
	if calls := s.gemini.Verdict().Calls - before; calls != 2 {
		t.Errorf("there were %d calls", calls)
	}
}

func skipWithout(t *testing.T, err error, path string) {
	t.Helper()
	if upstream, ok := errors.AsType[genai.APIError](err); ok && upstream.Code == http.StatusNotFound {
		t.Skipf("the fake Gemini does not know %s", path)
	}
}

func TestWhatCannotBeConfiguredSaysWhy(t *testing.T) {
	if _, err := keybrokergenai.NewClient(t.Context(), nil, nil); err == nil || !strings.Contains(err.Error(), "Client") {
		t.Errorf("%v", err)
	}
	broker, err := keybroker.New("127.0.0.1:50051")
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	if _, err := keybrokergenai.NewClient(t.Context(), &keybroker.Transport{Client: broker}, &genai.ClientConfig{Backend: genai.BackendVertexAI}); err == nil || !strings.Contains(err.Error(), "Backend") {
		t.Errorf("%v", err)
	}
}
