// One trace of a front end: a request and three model calls, sent by the exporter that is named.
//
//   node export.js proto|http <url> <key>      prints the trace id
import { SpanKind, context, trace } from "@opentelemetry/api";
import { OTLPTraceExporter as Http } from "@opentelemetry/exporter-trace-otlp-http";
import { OTLPTraceExporter as Proto } from "@opentelemetry/exporter-trace-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";

const [kind, url, key] = process.argv.slice(2);
const Exporter = { http: Http, proto: Proto }[kind];
const exporter = new Exporter({ url, headers: { Authorization: `Bearer ${key}` }, compression: "gzip" });
const provider = new BasicTracerProvider({
  resource: resourceFromAttributes({ "service.name": "storefront" }),
  spanProcessors: [new BatchSpanProcessor(exporter)],
});
const tracer = provider.getTracer("storefront");
const root = tracer.startSpan("POST /ask", { kind: SpanKind.SERVER });
const inside = trace.setSpan(context.active(), root);
for (let number = 0; number < 3; number++) {
  const call = tracer.startSpan("chat gpt-4o-mini", { kind: SpanKind.CLIENT }, inside);
  call.setAttributes({
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.usage.input_tokens": 10 + number,
    "gen_ai.usage.output_tokens": 1,
    "gen_ai.response.finish_reasons": ["stop"],
    "gen_ai.input.messages": JSON.stringify([{ role: "user", parts: [{ type: "text", content: "Grüße 🫖" }] }]),
    "session.id": "s-npm",
  });
  call.end();
}
root.end();
await provider.forceFlush();
await provider.shutdown();
console.log(root.spanContext().traceId);
