package keybroker

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// target is what a path and a body say of a request.
type target struct {
	model   string
	method  string
	permits int
}

// version is a segment of a path that makes it one of the Gemini API.
var version = regexp.MustCompile(`^v\d+((alpha|beta)\d*)?$`)

func isGemini(path string) bool {
	return slices.ContainsFunc(strings.Split(path, "/"), version.MatchString)
}

func targetOf(path string, body any) target {
	found := target{permits: 1}
	fields, _ := body.(map[string]any)
	parts := strings.Split(path, "/")
	place := slices.IndexFunc(parts, func(part string) bool { return part == "models" || part == "tunedModels" })
	if place >= 0 && place+1 < len(parts) && parts[place+1] != "" {
		id, method, _ := strings.Cut(parts[place+1], ":")
		found.model, found.method = id, method
		if parts[place] == "tunedModels" {
			found.model = "tunedModels/" + id
		}
	} else if model, ok := fields["model"].(string); ok {
		found.model = strings.TrimPrefix(model, "models/")
	}
	if requests, ok := fields["requests"].([]any); ok && found.method == "batchEmbedContents" {
		found.permits = max(len(requests), 1)
	}
	return found
}

func (t target) generates() bool {
	return t.method == "generateContent" || t.method == "streamGenerateContent"
}

// cleanURL takes a key out of a URL, where it has no place.
func cleanURL(place *url.URL) *url.URL {
	clean := *place
	if place.RawQuery != "" {
		pairs := strings.Split(place.RawQuery, "&")
		pairs = slices.DeleteFunc(pairs, func(pair string) bool {
			name, _, _ := strings.Cut(pair, "=")
			name, err := url.QueryUnescape(name)
			return err == nil && name == "key"
		})
		clean.RawQuery = strings.Join(pairs, "&")
	}
	return &clean
}
