// Package keybroker leases Gemini API keys from a keybroker, so that a fleet of workers shares one quota.
//
// A worker takes a [Lease], sends one request to Gemini with the leased key, and reports what came of it:
//
//	client, err := keybroker.New("broker:50051")
//	if err != nil { ... }
//	defer client.Close()
//
//	lease, err := client.Acquire(ctx, keybroker.Request{Model: "gemini-2.5-flash"})
//	if err != nil { ... }
//	defer lease.Close() // reports what was not reported, also after a panic
//	key, err := lease.BeginSend()
//	// ... send one request with the header x-goog-api-key ...
//	advice, err := lease.Success(ctx, keybroker.Usage{InputTokens: keybroker.Tokens(12)})
//
// [Transport] does all of that for an [net/http.Client]: it leases for each request, obeys the broker's advice
// on failures, and renews the lease while a long answer runs. Package keybrokergenai puts it into Google's
// official SDK.
//
// What Google's answers mean is read in the broker, never here: this package reports them and obeys.
package keybroker
