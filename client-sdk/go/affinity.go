package keybroker

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
)

// mostKnown is how many things are remembered; those not used for longest are forgotten first.
const mostKnown = 10_000

// owned are the collections whose members belong to a project.
var owned = []string{"files", "cachedContents", "batches", "operations", "fileSearchStores", "interactions"}

// affinity knows which project made what, as far as this transport saw it: a file, a cached content, a batch or an
// interaction can be used with keys of the project that made it, and with no other.
type affinity struct {
	once  sync.Once
	known *lru.Cache[string, string]
}

func (a *affinity) projects() *lru.Cache[string, string] {
	// It fails for a size below 1 only.
	a.once.Do(func() { a.known, _ = lru.New[string, string](mostKnown) })
	return a.known
}

// projectOf is the project of what the request is about or names; empty if it is not known.
func (a *affinity) projectOf(place *url.URL, body any) string {
	known := a.projects()
	if known.Len() == 0 {
		return ""
	}
	for _, name := range []string{session(place), member(place.Path)} {
		if project, ok := known.Get(name); ok {
			return project
		}
	}
	return inBody(known, body)
}

// learn takes in what an answer says was made.
func (a *affinity) learn(project string, header http.Header, read *envelope) {
	names := []string{member(read.Name), member(read.File.Name)}
	for _, id := range []string{read.id(), read.Interaction.ID} {
		if id != "" {
			names = append(names, "interactions/"+id)
		}
	}
	if upload := header.Get("X-Goog-Upload-Url"); upload != "" {
		if place, err := url.Parse(upload); err == nil {
			names = append(names, session(place))
		}
	}
	for _, name := range names {
		if name != "" {
			a.projects().Add(name, project)
		}
	}
}

func inBody(known *lru.Cache[string, string], body any) string {
	switch body := body.(type) {
	case string:
		// Names are short, and what is long is no name.
		if len(body) < 512 {
			if name := member(body); name != "" {
				project, _ := known.Get(name)
				return project
			}
		}
	case []any:
		for _, item := range body {
			if project := inBody(known, item); project != "" {
				return project
			}
		}
	case map[string]any:
		if id, ok := body["previous_interaction_id"].(string); ok {
			if project, ok := known.Get("interactions/" + id); ok {
				return project
			}
		}
		for _, field := range body {
			if project := inBody(known, field); project != "" {
				return project
			}
		}
	}
	return ""
}

// member finds what belongs to a project in a name, a path or a URI: such as files/abc.
func member(text string) string {
	parts := strings.FieldsFunc(text, func(char rune) bool { return char == '/' || char == ':' || char == '?' })
	for at, part := range parts {
		if slices.Contains(owned, part) && at+1 < len(parts) {
			return part + "/" + parts[at+1]
		}
	}
	return ""
}

// session names an upload that goes on.
func session(place *url.URL) string {
	if id := place.Query().Get("upload_id"); id != "" {
		return "upload/" + id
	}
	return ""
}
