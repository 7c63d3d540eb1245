package keybroker_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	keybroker "github.com/keybroker/keybroker/client-sdk/go"
	"github.com/keybroker/keybroker/client-sdk/go/internal/stage"
)

// TestKilledWorker is no test but the worker of the one below, in a process of its own.
func TestKilledWorker(t *testing.T) {
	address := os.Getenv("KEYBROKER_TEST_WORKER_OF")
	if address == "" {
		t.Skip("it is started by TestAKilledWorkerCostsItsPlaceUntilExpiry")
	}
	lease, err := connect(t, address).Acquire(t.Context(), keybroker.Request{Model: model, TTL: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Close()
	if _, err := lease.BeginSend(); err != nil {
		t.Fatal(err)
	}
	fmt.Println("holding")
	time.Sleep(time.Minute)
}

func TestAKilledWorkerCostsItsPlaceUntilExpiry(t *testing.T) {
	broker := stage.StartBroker(t, stage.Config(1, "in_flight = 1", ""), "")
	client := connect(t, broker.Address)
	worker := exec.Command(os.Args[0], "-test.run=^TestKilledWorker$", "-test.v")
	worker.Env = append(os.Environ(), "KEYBROKER_TEST_WORKER_OF="+broker.Address)
	output, err := worker.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(output); lines.Scan() && !strings.Contains(lines.Text(), "holding"); {
	}
	worker.Process.Kill()
	worker.Wait()
	if _, err := client.Acquire(t.Context(), keybroker.Request{Model: model}); !errors.Is(err, keybroker.ErrRefused) {
		t.Errorf("the place of a killed worker was free at once, or never taken: %v", err)
	}
	lease, err := client.Acquire(t.Context(), keybroker.Request{Model: model, Wait: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	lease.Close()
	flush(t, client)
}
