import WebSocket from 'ws';
const ws = new WebSocket('ws://localhost:5123/ws');
ws.on('message', (m)=>console.log('<', String(m)));
ws.on('ping', ()=>console.log('ping'));
ws.on('close', (c)=>console.log('close', c));
ws.on('error', (e)=>console.log('error', e.message));
ws.on('open', async ()=>{
  const s=(x)=>ws.send(typeof x==='string'?x:JSON.stringify(x));
  s({event:'client:ping'}); s('x'); s({event:'authenticate',data:{user_id:'u',organization_id:'o'},id:1});
  s({event:'subscribe',data:{channels:['kpi']},id:'a'}); s({event:'nope'}); ws.send(Buffer.from([1,2]));
  await new Promise(r=>setTimeout(r,300));
  const r=await fetch('http://localhost:5123/api/ws/broadcast/kpi',{method:'POST',headers:{'content-type':'application/json'},body:'{"organization_id":"o","x":1}'}); console.log(await r.text());
  await new Promise(r=>setTimeout(r,3500)); ws.close();
});
