package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/keybroker/keybroker/client-sdk/go/internal/stage"
)

// Before and after, a program prints the same, and no call is refused.
func TestPrograms(t *testing.T) {
	rivers := []string{"Where does the Nile begin?", "Where does the Amazon begin?", "Where does the Yangtze begin?"}
	for name, questions := range map[string][]string{
		"environment_before": {"Name three rivers."}, "environment_after": {"Name three rivers."},
		"rotator_before": rivers, "rotator_after": rivers,
		"file_before": rivers, "file_after": rivers,
	} {
		t.Run(name, func(t *testing.T) {
			run(t, name, questions, strings.HasSuffix(name, "_after"))
		})
	}
}

func run(t *testing.T, name string, questions []string, leases bool) {
	folder := t.TempDir()
	t.Chdir(folder)
	keys, once, want := "", map[string]map[string]int{}, ""
	for number, question := range questions {
		key := fmt.Sprintf("fake-key-%04d", number)
		keys += key + "\n"
		once[stage.Fingerprint(key)] = map[string]int{"generateContent": 1}
		want += "echo: " + question + "\n"
	}
	write(t, "keys.txt", keys)
	// So little that each key has to take its turn.
	write(t, "scenario.json", fmt.Sprintf(`{"name":%q,"about":"","projects":%d,"quota":{"rpm":1},"pool":{"limits":[{"requests_per_minute":1}]},"steps":[]}`, name, len(questions)))
	scene := stage.Open(t, filepath.Join(folder, "scenario.json"))
	t.Setenv("GOOGLE_GEMINI_BASE_URL", scene.Gemini.URL)
	granted := 0
	if leases {
		granted = len(questions)
		t.Setenv("KEYBROKER_BROKER", scene.Brokers[0])
	} else {
		t.Setenv("GEMINI_API_KEY", "fake-key-0000")
		t.Setenv("GOOGLE_API_KEY", "")
	}
	if printed := printed(t, name); printed != want {
		t.Errorf("it printed %q, not %q", printed, want)
	}
	expect := map[string]any{"calls": len(questions), "refused": 0, "keys_in_url": 0, "granted": granted, "settled": granted}
	see, _ := json.Marshal(map[string]any{"stage": "see", "expect": expect})
	var seen map[string]any
	scene.Take(string(see), &seen)
	for what, value := range expect {
		if fmt.Sprint(seen[what]) != fmt.Sprint(value) {
			t.Errorf("%s is not %v: %v", what, value, seen)
		}
	}
	if got := scene.Gemini.Verdict().Keys; !reflect.DeepEqual(got, once) {
		t.Errorf("each key once is %v, not %v", once, got)
	}
}

// printed is what a program prints.
func printed(t *testing.T, name string) string {
	t.Helper()
	file, err := os.Create("printed.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	stdout := os.Stdout
	os.Stdout = file
	err = programs[name](t.Context())
	os.Stdout = stdout
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
