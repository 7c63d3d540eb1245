// Package keybrokergenai makes clients of Google's official SDK that lease a key for each request.
package keybrokergenai

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"google.golang.org/genai"
	"google.golang.org/genai/interactions"
	"google.golang.org/genai/interactions/models/components"
	"google.golang.org/genai/interactions/retry"

	keybroker "github.com/keybroker/keybroker/client-sdk/go"
)

// NewClient makes a client of the Gemini API that leases a key for each of its requests: generate, stream, embed, count,
// files, caches, batches and interactions. Everything else about it is as [genai.NewClient] makes it.
//
//	broker, err := keybroker.New("broker:50051")
//	client, err := keybrokergenai.NewClient(ctx, &keybroker.Transport{Client: broker}, nil)
//	answer, err := client.Models.GenerateContent(ctx, "gemini-2.5-flash", genai.Text("Hello"), nil)
//
// config may be nil. Its APIKey is not used, its HTTPClient sends the requests unless the transport has a Base of its
// own, and retries of the SDK's own are off, since the broker advises what to try again. The transport must not be used
// before. Live sessions, which are no HTTP requests, are not leased and fail for want of a key.
func NewClient(ctx context.Context, transport *keybroker.Transport, config *genai.ClientConfig) (*genai.Client, error) {
	if transport == nil || transport.Client == nil {
		return nil, errors.New("keybrokergenai: the transport needs a Client: &keybroker.Transport{Client: broker}")
	}
	made := genai.ClientConfig{}
	if config != nil {
		made = *config
	}
	if made.Credentials != nil || made.Backend != genai.BackendUnspecified && made.Backend != genai.BackendGeminiAPI {
		return nil, errors.New("keybrokergenai: keys are leased for the Gemini API only: leave Backend and Credentials out")
	}
	made.Backend = genai.BackendGeminiAPI
	made.APIKey = keybroker.PlaceholderKey
	made.HTTPOptions.RetryOptions = nil
	client := http.Client{}
	if made.HTTPClient != nil {
		client = *made.HTTPClient
	}
	if transport.Base == nil {
		transport.Base = client.Transport
	}
	client.Transport = transport
	made.HTTPClient = &client

	full, err := genai.NewClient(ctx, &made)
	if err != nil {
		return nil, err
	}
	withoutRetries(full)
	return full, nil
}

// withoutRetries replaces the services that try again by themselves.
func withoutRetries(client *genai.Client) {
	config := client.ClientConfig()
	key := config.APIKey
	security := components.Security{APIKey: &key, DefaultHeaders: map[string]string{}}
	for name, values := range config.HTTPOptions.Headers {
		security.DefaultHeaders[name] = strings.Join(values, " ")
	}
	options := []interactions.SDKOption{
		interactions.WithRetryConfig(retry.Config{Strategy: "none"}),
		interactions.WithSecurity(security),
		interactions.WithClient(config.HTTPClient),
		interactions.WithServerURL(config.HTTPOptions.BaseURL),
		interactions.WithAPIVersion(config.HTTPOptions.APIVersion),
	}
	if config.HTTPOptions.Timeout != nil {
		options = append(options, interactions.WithTimeout(*config.HTTPOptions.Timeout))
	}
	services := interactions.New(options...)
	client.Interactions = services.Interactions
	client.Voices = services.Voices
	client.Webhooks = services.Webhooks
	client.Agents = services.Agents
	client.Credentials = services.Credentials
	client.Environments = services.Environments
}
