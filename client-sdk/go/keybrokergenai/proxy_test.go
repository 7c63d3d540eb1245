package keybrokergenai_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/genai"
	"google.golang.org/genai/interactions/models/interactions"
	"google.golang.org/genai/interactions/models/operations"

	"github.com/keybroker/keybroker/client-sdk/go/internal/stage"
)

// proxied is a broker, the fake Gemini, and `keybroker proxy` before it.
type proxied struct {
	*testing.T
	scene    *stage.Scene
	url      string
	projects int
}

func proxy(t *testing.T, projects int, limits string, args ...string) *proxied {
	t.Helper()
	file := filepath.Join(t.TempDir(), "scenario.json")
	// Least recently used, so that the next request goes elsewhere, unless something keeps it.
	story := fmt.Sprintf(`{"name":"proxy","about":"","projects":%d,"pool":{"strategy":"least_recently_used","limits":[%s]},"steps":[]}`, projects, limits)
	if err := os.WriteFile(file, []byte(story), 0o600); err != nil {
		t.Fatal(err)
	}
	scene := stage.Open(t, file)
	return &proxied{t, scene, scene.Proxy(args...), projects}
}

// client is Google's own, which knows nothing of leases.
func (p *proxied) client(version string) *genai.Client {
	transport := &http.Transport{}
	p.Cleanup(transport.CloseIdleConnections)
	client, err := genai.NewClient(p.Context(), &genai.ClientConfig{
		APIKey:      "any-text",
		Backend:     genai.BackendGeminiAPI,
		HTTPClient:  &http.Client{Transport: transport},
		HTTPOptions: genai.HTTPOptions{BaseURL: p.url, APIVersion: version},
	})
	if err != nil {
		p.Fatal(err)
	}
	return client
}

// checkBooks fails unless all is reported, nothing was refused, and only leased keys reached Gemini.
func (p *proxied) checkBooks() {
	p.Helper()
	var seen struct {
		InFlight  int `json:"in_flight"`
		Granted   int `json:"granted"`
		Settled   int `json:"settled"`
		Refused   int `json:"refused"`
		KeysInURL int `json:"keys_in_url"`
	}
	p.scene.Take(`{"stage":"see","expect":{"in_flight":0,"waiting":0,"refused":0,"keys_in_url":0}}`, &seen)
	if seen.Granted == 0 || seen.InFlight != 0 || seen.Settled != seen.Granted || seen.Refused != 0 || seen.KeysInURL != 0 {
		p.Errorf("the books say %+v", seen)
	}
	keys := p.scene.Gemini.Verdict().Keys
	for number := range p.projects {
		delete(keys, stage.Fingerprint(fmt.Sprintf("fake-key-%04d", number)))
	}
	if len(keys) != 0 {
		p.Errorf("keys that were not leased reached Gemini: %v", keys)
	}
}

// projectsSince is which projects were called since so many calls.
func (p *proxied) projectsSince(calls int) map[string]bool {
	projects := map[string]bool{}
	for _, entry := range p.scene.Gemini.Log()[calls:] {
		projects[entry.Project] = true
	}
	return projects
}

func TestTheOfficialSDKThroughTheProxy(t *testing.T) {
	for _, version := range []string{"v1", "v1beta"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			p := proxy(t, 3, `{"requests_per_minute":1000,"in_flight":100}`)
			client := p.client(version)
			p.models(client)
			// With v1, Google's SDK asks for uploads at a path that Google does not have: /v1/upload/v1beta/files.
			if version == "v1beta" {
				p.files(client)
			}
			p.interactions(client, version)
			p.checkBooks()
		})
	}
}

func (p *proxied) models(client *genai.Client) {
	ctx := p.Context()
	answer, err := client.Models.GenerateContent(ctx, model, genai.Text("hello there"), nil)
	if err != nil || answer.Text() != "echo: hello there" {
		p.Errorf("it answered %v: %v", answer, err)
	}
	text, events := "", 0
	for event, err := range client.Models.GenerateContentStream(ctx, model, genai.Text("hello there"), nil) {
		if err != nil {
			p.Fatal(err)
		}
		text += event.Text()
		events++
	}
	if text != "echo: hello there" || events != 3 {
		p.Errorf("%d events: %s", events, text)
	}
	count, err := client.Models.CountTokens(ctx, model, genai.Text("12345678"), nil)
	if err != nil || count.TotalTokens != 2 {
		p.Errorf("it counted %v: %v", count, err)
	}
	embedded, err := client.Models.EmbedContent(ctx, "gemini-embedding-001", append(genai.Text("one"), genai.Text("two")...), nil)
	if err != nil || len(embedded.Embeddings) != 2 {
		p.Errorf("it embedded %v: %v", embedded, err)
	}
}

func (p *proxied) files(client *genai.Client) {
	ctx := p.Context()
	file, err := client.Files.Upload(ctx, strings.NewReader("Nile, Amazon"), &genai.UploadFileConfig{MIMEType: "text/plain"})
	if err != nil {
		p.Fatal(err)
	}
	before := p.scene.Gemini.Verdict().Calls
	contents := []*genai.Content{genai.NewContentFromParts([]*genai.Part{
		genai.NewPartFromText("what is in it?"), genai.NewPartFromURI(file.URI, file.MIMEType),
	}, genai.RoleUser)}
	// The fake Gemini answers 403 to a key of another project.
	for range 2 * p.projects {
		if _, err := client.Models.GenerateContent(ctx, model, contents, nil); err != nil {
			p.Fatal(err)
		}
	}
	if got, err := client.Files.Get(ctx, file.Name, nil); err != nil || got.Name != file.Name {
		p.Errorf("it got %v: %v", got, err)
	}
	if _, err := client.Files.Delete(ctx, file.Name, nil); err != nil {
		p.Error(err)
	}
	if projects := p.projectsSince(before); len(projects) != 1 {
		p.Errorf("a file of one project was used with keys of %v", projects)
	}
	for range p.projects - 1 {
		if _, err := client.Models.GenerateContent(ctx, model, genai.Text("no file"), nil); err != nil {
			p.Fatal(err)
		}
	}
	if projects := p.projectsSince(before); len(projects) != p.projects {
		p.Errorf("what names no file went to %v only", projects)
	}
}

func (p *proxied) interactions(client *genai.Client, version string) {
	input := interactions.NewInteractionsInput([]interactions.Content{{TextContent: &interactions.TextContent{Text: "hello there"}}})
	var previous *string
	before := p.scene.Gemini.Verdict().Calls
	for range p.projects {
		answer, err := client.Interactions.Create(p.Context(), operations.CreateInteractionRequest{
			APIVersion: &version,
			Body: operations.NewCreateInteractionRequestBody(interactions.CreateModelInteraction{
				Model: interactions.Model(model), Input: &input, PreviousInteractionID: previous,
			}),
		})
		if err != nil || len(answer.Interaction.Steps) == 0 {
			p.Fatalf("it answered %v: %v", answer, err)
		}
		previous = answer.Interaction.ID
	}
	if projects := p.projectsSince(before); len(projects) != 1 {
		p.Errorf("interactions that go on from one of a project were sent with keys of %v", projects)
	}
}

func TestTheOfficialSDKIsToldOfTheProxyByItsEnvironment(t *testing.T) {
	p := proxy(t, 1, `{"in_flight":10}`)
	t.Setenv("GOOGLE_GEMINI_BASE_URL", p.url)
	t.Setenv("GEMINI_API_KEY", "any-text")
	t.Setenv("GOOGLE_API_KEY", "")
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	client, err := genai.NewClient(t.Context(), &genai.ClientConfig{HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Models.GenerateContent(t.Context(), model, genai.Text("hello"), nil)
	if err != nil || answer.Text() != "echo: hello" {
		t.Errorf("it answered %v: %v", answer, err)
	}
	p.checkBooks()
}

// kept keeps the head of the last answer.
type kept struct {
	http.RoundTripper
	header http.Header
}

func (k *kept) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := k.RoundTripper.RoundTrip(request)
	if err == nil {
		k.header = response.Header
	}
	return response, err
}

func TestWhatTheProxyRefusesTheOfficialSDKShows(t *testing.T) {
	p := proxy(t, 1, `{"requests_per_minute":1,"in_flight":10}`, "--deadline", "1")
	client := p.client("v1")
	head := &kept{RoundTripper: client.ClientConfig().HTTPClient.Transport}
	client.ClientConfig().HTTPClient.Transport = head
	ask := func() (shown genai.APIError) {
		_, err := client.Models.GenerateContent(t.Context(), model, genai.Text("hello"), nil)
		if err != nil && !errors.As(err, &shown) {
			t.Fatalf("it is no error of Google's SDK: %v", err)
		}
		return shown
	}
	if shown := ask(); shown.Code != 0 {
		t.Fatal(shown)
	}
	spent := ask()
	if spent.Code != 429 || spent.Status != "RESOURCE_EXHAUSTED" || !strings.HasPrefix(spent.Message, "keybroker: no key is free") {
		t.Errorf("spent quota is shown as %v", spent)
	}
	details, _ := json.Marshal(spent.Details)
	if !strings.Contains(string(details), "google.rpc.RetryInfo") {
		t.Errorf("there is no RetryInfo: %s", details)
	}
	if seconds, err := strconv.Atoi(head.header.Get("Retry-After")); err != nil || seconds < 50 || seconds > 65 {
		t.Errorf("Retry-After is %q", head.header.Get("Retry-After"))
	}
	p.checkBooks()
	p.scene.Take(`{"stage":"stop_broker","number":0}`, &struct{}{})
	away := ask()
	if away.Code != 503 || away.Status != "UNAVAILABLE" || !strings.HasPrefix(away.Message, "keybroker: ") || !strings.Contains(away.Message, p.scene.Brokers[0]) {
		t.Errorf("a broker that is away is shown as %v", away)
	}
}
