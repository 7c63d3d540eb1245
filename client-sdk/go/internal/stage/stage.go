// Package stage starts the programs that tests need: real brokers, and the fake Gemini.
package stage

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startPatience is how long a program may take until it serves.
const startPatience = 20 * time.Second

// Root is the root of the repository.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..", "..")
}

// Binary is a program of the repository, in the folder KEYBROKER_BIN or else in target/quick.
func Binary(t testing.TB, name string) string {
	t.Helper()
	folder := os.Getenv("KEYBROKER_BIN")
	if folder == "" {
		folder = filepath.Join(Root(), "target", "quick")
	}
	file := filepath.Join(folder, name)
	if _, err := os.Stat(file); err != nil {
		t.Fatalf("%s is not built: run `cargo build --profile quick --workspace --bins` in the root of the repository, or set KEYBROKER_BIN to the folder that holds it", file)
	}
	return file
}

// Process is a program that ends with its test.
type Process struct {
	t       testing.TB
	command *exec.Cmd
	once    sync.Once
}

func start(t testing.TB, name string, args ...string) (*Process, io.Reader, io.Reader) {
	t.Helper()
	command := exec.Command(Binary(t, name), args...)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	process := &Process{t: t, command: command}
	t.Cleanup(process.Kill)
	return process, stdout, stderr
}

// Kill ends it at once.
func (p *Process) Kill() {
	p.once.Do(func() {
		p.command.Process.Kill()
		p.command.Wait()
	})
}

// Signal sends it a signal.
func (p *Process) Signal(signal syscall.Signal) { p.command.Process.Signal(signal) }

// within gives what a channel brings, or fails the test.
func within[T any](t testing.TB, what string, ready <-chan T, log func() string) T {
	t.Helper()
	select {
	case value, ok := <-ready:
		if ok {
			return value
		}
	case <-time.After(startPatience):
	}
	t.Fatalf("%s does not serve:\n%s", what, log())
	panic("unreachable")
}

// Broker is a running broker.
type Broker struct {
	*Process
	// Address is host:port for gRPC.
	Address string
}

// StartBroker starts one with this configuration, in TOML. address is where it listens; empty: at a free port.
func StartBroker(t testing.TB, config, address string, args ...string) *Broker {
	t.Helper()
	folder := t.TempDir()
	file := filepath.Join(folder, "keybroker.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if address == "" {
		address = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	}
	all := append([]string{
		"serve", "--config", file, "--data-dir", filepath.Join(folder, "data"),
		"--grpc-addr", address, "--http-addr", "127.0.0.1:0", "--log-format", "json",
	}, args...)
	process, _, stderr := start(t, "keybroker", all...)
	var mu sync.Mutex
	var log strings.Builder
	serving := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			mu.Lock()
			log.WriteString(lines.Text() + "\n")
			mu.Unlock()
			var entry struct {
				Fields struct{ Message, GRPC string }
			}
			if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Fields.Message == "serving" {
				serving <- entry.Fields.GRPC
			}
		}
		close(serving)
	}()
	at := within(t, "keybroker", serving, func() string {
		mu.Lock()
		defer mu.Unlock()
		return log.String()
	})
	return &Broker{process, at}
}

// freePort returns a port at which nobody listens, below those that Linux and macOS give to outgoing connections (from
// 32768), so that no connection of another test's takes it before it is used, nor while a broker is away.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 15_000 + rand.IntN(17_000)
		if listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			listener.Close()
			return port
		}
	}
	t.Fatal("no port of a hundred is free")
	return 0
}

// Config is a broker's configuration with so many projects, of one plainly fake key each, and these limits in each
// project: fields in TOML, such as "requests_per_minute = 100".
func Config(projects int, limits string, pool string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "default_plan = \"off\"\n[[pools]]\nname = \"default\"\n%s\nlimits = [{ %s }]\n", pool, limits)
	for number := range projects {
		fmt.Fprintf(&text, "[[projects]]\nid = \"project-%04d\"\nkeys = [{ id = \"key-%04d\", secret = \"fake-key-%04d\" }]\n", number, number, number)
	}
	return text.String()
}

// Scene is brokers and a fake Gemini as a scenario of client-sdk/contract wants them.
type Scene struct {
	t       testing.TB
	Brokers []string
	Gemini  *Gemini
	// Certificates is the folder that certificates are named in.
	Certificates string
	tell         io.Writer
	told         *bufio.Reader
}

// Open sets the scene of a scenario, which is a file.
func Open(t testing.TB, file string) *Scene {
	t.Helper()
	command := exec.Command(Binary(t, "contract-stage"), file)
	var log bytes.Buffer
	command.Stderr = &log
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		timer := time.AfterFunc(startPatience, func() { command.Process.Kill() })
		defer timer.Stop()
		if err := command.Wait(); err != nil {
			t.Errorf("the stage: %v\n%s", err, log.String())
		}
	})
	told := bufio.NewReader(stdout)
	var said struct {
		Brokers      []string `json:"brokers"`
		Gemini       string   `json:"gemini"`
		Certificates string   `json:"certificates"`
	}
	line, err := told.ReadBytes('\n')
	if err != nil || json.Unmarshal(line, &said) != nil {
		t.Fatalf("the stage does not start: %v %s", err, line)
	}
	gemini := &Gemini{&Process{t: t, command: command}, said.Gemini}
	return &Scene{t, said.Brokers, gemini, said.Certificates, stdin, told}
}

// Take has the stage take a step, in one line of JSON, and reads its answer into a value.
func (s *Scene) Take(step string, answer any) {
	s.t.Helper()
	if _, err := io.WriteString(s.tell, step+"\n"); err != nil {
		s.t.Fatal(err)
	}
	line, err := s.told.ReadBytes('\n')
	if err != nil {
		s.t.Fatalf("the stage ended at %s: %v", step, err)
	}
	if err := json.Unmarshal(line, answer); err != nil {
		s.t.Fatalf("the stage answered %s: %v", line, err)
	}
}

// Proxy starts `keybroker proxy` before the scene, and gives its base URL.
func (s *Scene) Proxy(args ...string) string {
	s.t.Helper()
	_, _, stderr := start(s.t, "keybroker", append([]string{
		"proxy", "--broker", strings.Join(s.Brokers, ","), "--upstream", s.Gemini.URL, "--listen", "127.0.0.1:0",
	}, args...)...)
	line, _ := bufio.NewReader(stderr).ReadString('\n')
	_, rest, _ := strings.Cut(line, "http://")
	address, _, found := strings.Cut(rest, ";")
	if !found {
		s.t.Fatalf("the proxy does not start: %s", line)
	}
	go io.Copy(io.Discard, stderr)
	return "http://" + address
}

// Gemini is a running fake Gemini.
type Gemini struct {
	*Process
	// URL is its base URL.
	URL string
}

// StartGemini starts one that knows the keys of so many projects.
func StartGemini(t testing.TB, projects int, args ...string) *Gemini {
	t.Helper()
	process, stdout, _ := start(t, "fake-gemini", append([]string{"--projects", fmt.Sprint(projects)}, args...)...)
	ready := make(chan string, 1)
	go func() {
		defer close(ready)
		var said struct{ Listening string }
		line, _ := bufio.NewReader(stdout).ReadString('\n')
		if json.Unmarshal([]byte(line), &said) == nil && said.Listening != "" {
			ready <- said.Listening
		}
	}()
	address := within(t, "fake-gemini", ready, func() string { return "" })
	return &Gemini{process, "http://" + address}
}

// Fault makes calls go wrong, by a rule in JSON as POST /control/faults takes it.
func (g *Gemini) Fault(rule string) {
	g.t.Helper()
	response, err := http.Post(g.URL+"/control/faults", "application/json", strings.NewReader(rule))
	if err != nil {
		g.t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusNoContent {
		text, _ := io.ReadAll(response.Body)
		g.t.Fatalf("the fault %s was refused: %s", rule, text)
	}
}

// Verdict is what the fake saw.
type Verdict struct {
	Calls         int `json:"calls"`
	QuotaRefusals int `json:"quota_refusals"`
	KeysInURL     int `json:"keys_in_url"`
	// Keys are calls by fingerprint and method.
	Keys map[string]map[string]int `json:"keys"`
}

// Fingerprint is how a verdict names a key.
func Fingerprint(key string) string {
	digest := sha256.Sum256([]byte(key))
	return hex.EncodeToString(digest[:6])
}

// Verdict asks the fake what it saw.
func (g *Gemini) Verdict() Verdict {
	g.t.Helper()
	var verdict Verdict
	g.get("/control/verdict", &verdict)
	return verdict
}

// Entry is one call that the fake saw.
type Entry struct {
	Project string `json:"project"`
	Model   string `json:"model"`
	Method  string `json:"method"`
	Status  int    `json:"status"`
}

// Log is the calls that the fake saw, oldest first.
func (g *Gemini) Log() []Entry {
	g.t.Helper()
	var page struct {
		Entries []Entry `json:"entries"`
	}
	g.get("/control/log", &page)
	return page.Entries
}

func (g *Gemini) get(path string, into any) {
	g.t.Helper()
	response, err := http.Get(g.URL + path)
	if err != nil {
		g.t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		g.t.Fatalf("%s: %v", path, err)
	}
}
